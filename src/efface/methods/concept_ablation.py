"""Concept Ablation (Kumari et al., "Ablating Concepts in Text-to-Image Diffusion Models", ICCV 2023, arXiv 2303.13516).

The student learns to predict, for a prompt that names the concept, what it predicts for the same prompt with an anchor in its place, on
noised images of the anchor:

    L = || e(z_t, t, p_target) - sg e(z_t, t, p_anchor) ||^2 + prior || e(z'_t, t', p_anchor) - noise' ||^2

with z_t = alpha_t x0 + sigma_t noise, x0 drawn by the original for p_anchor and sg a stop-gradient: the teacher is the student itself, as
published; ``teacher="original"`` takes the frozen model. The second objective of the paper, ``objective="noise"``, has the noise in place
of the teacher. ``prior`` weighs ordinary training on the anchor's images, which keeps the anchor where it is; ``prior_source="retain"``
takes the concept's retain prompts and images of these instead, and the original's prediction for noise' where the original teaches.
Keys and values of the first token are detached, as the released code has it: every prompt shares that token.

Where we differ: latents come straight out of the sampler (DDIM), not through the autoencoder and back, and are not cropped. Without an
anchor, the same sentence without the concept is the anchor ("a sketch of the woods").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from efface.core.concept import Concept, fill_templates
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError, UnknownNameError
from efface.core.method_card import MethodCard
from efface.core.subsample import evenly_spaced
from efface.models.editable import EditableModel
from efface.ops.editing.forward_hooks import detached_first_token
from efface.ops.text.templates import names_context, remove_concept, template_library, templates_for_kind
from efface.ops.training.latents import Latents, generate_latents
from efface.ops.training.run import Run
from efface.ops.training.student import Student

CARD = MethodCard(
    name="concept_ablation",
    title="Concept Ablation",
    paper="Kumari, Zhang, Wang, Shechtman, Zhang, Zhu: Ablating Concepts in Text-to-Image Diffusion Models, ICCV 2023",
    arxiv="2303.13516",
    families=("sd1", "sd2", "sdxl"),
    trains="keys and values of the attention to the text",
    needs_gradient=True,
    needs_images=True,
    vram={},
    minutes={},
    reconstruction=False,
    summary="Fine-tunes the model to draw an anchor where the concept is asked for, on images of the anchor.",
)


@dataclass(frozen=True)
class Config:
    """Concept Ablation's hyper-parameters; the defaults are the paper's for objects and styles (batch 4 on two GPUs)."""

    target_modules: str = field(default="cross_kv", metadata={"help": "what is trained: cross_kv, attn_all, unet_all"})
    steps: int = field(default=100, metadata={"help": "training steps", "range": "100 to 800"})
    learning_rate: float = field(default=1.6e-5, metadata={"help": "AdamW's learning rate: 2e-6 an image of the batch"})
    batch_size: int = field(default=8, metadata={"help": "images a step"})
    num_images: int = field(
        default=1000, metadata={"help": "images of the anchor that the original draws", "range": "32 to 1000"}
    )
    num_inference_steps: int = field(default=50, metadata={"help": "DDIM steps of an image"})
    guidance_scale: float = field(default=6.0, metadata={"help": "guidance scale of the images"})
    objective: str = field(
        default="model",
        metadata={"help": "what is learned for the concept: the anchor's prediction (model) or the noise"},
    )
    teacher: str = field(
        default="student", metadata={"help": "who predicts for the anchor: student (stop-gradient) or original"}
    )
    num_templates: int = field(
        default=0, metadata={"help": "sentences of the template library, beside the concept's own", "range": "0 to 66"}
    )
    prior_weight: float = field(
        default=0.0, metadata={"help": "weight of the prior: what must be drawn as before", "range": "0 to 1"}
    )
    prior_source: str = field(
        default="anchor",
        metadata={"help": "what the prior keeps: images of the anchor, or of retain prompts (retain)"},
    )
    max_grad_norm: float = field(default=1.0, metadata={"help": "largest norm of the gradient"})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {
        "target_modules": "attn_all",
        "learning_rate": 2e-4,
        "steps": 300,
        "batch_size": 16,
        "num_images": 96,
        "num_inference_steps": 20,
        "guidance_scale": 3.0,
        "teacher": "original",
        "num_templates": 30,
        "prior_weight": 2.0,
        "prior_source": "retain",
    },
}


def concept_ablation(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Put each concept's anchor in its place; several concepts share the steps evenly."""
    check_concepts(config, concepts)
    pairs = anchor_pairs(concepts, config.num_templates)
    latents = generate_anchor_images(model, [anchor for _, anchor in pairs], config, run)
    kept_prompts = (
        [anchor for _, anchor in pairs]
        if config.prior_source == "anchor"
        else [r for c in concepts for r in c.retain_prompts]
    )
    prior = (
        latents
        if config.prior_source == "anchor" or not config.prior_weight
        else generate_anchor_images(model, kept_prompts, config, run)
    )
    with torch.no_grad():
        named, anchors = model.encode([target for target, _ in pairs]), model.encode([anchor for _, anchor in pairs])
        kept = model.encode(kept_prompts)
    student, generator = Student(model, config.target_modules), run.generator("batch")
    optimiser = torch.optim.AdamW(student.parameters(), lr=config.learning_rate)
    with detached_first_token(model):
        for step in run.steps(config.steps, student.masters, optimiser, clip=config.max_grad_norm):
            z, t, noise, which = latents.add_noise(config.batch_size, generator)
            with torch.no_grad():
                taught = student if config.teacher == "student" else model
                target = noise if config.objective == "noise" else taught.predict(z, t, anchors[which]).epsilon
            loss = (student.predict(z, t, named[which]).epsilon - target).square().mean()
            parts = {"ablation": loss.detach()}
            if config.prior_weight:
                z, t, noise, which = prior.add_noise(config.batch_size, generator)
                with torch.no_grad():
                    target = noise if config.teacher == "student" else model.predict(z, t, kept[which]).epsilon
                drift = (student.predict(z, t, kept[which]).epsilon - target).square().mean()
                loss, parts = loss + config.prior_weight * drift, {**parts, "prior": drift.detach()}
            step.optimize(loss, parts)
    edits, tensors = student.replace_edits()
    return run.erasure(edits, tensors)


def check_concepts(config: Config, concepts: Sequence[Concept]) -> None:
    """Raises `UnknownName` for a choice that is none, `EffaceError` for a prior on retain prompts that are not there."""
    choices = {"objective": ("model", "noise"), "teacher": ("student", "original"), "prior_source": ("anchor", "retain")}
    for name, known in choices.items():
        if getattr(config, name) not in known:
            raise UnknownNameError("choice", getattr(config, name), known)
    if config.prior_source == "retain" and not any(concept.retain_prompts for concept in concepts):
        raise EffaceError("prior_source=retain needs retain prompts: give --retain-file, or set prior_source=anchor")


def generate_anchor_images(model: EditableModel, prompts: Sequence[str], config: Config, run: Run) -> Latents:
    """Images that the original draws for the prompts in turn."""
    return generate_latents(
        model, prompts, count=config.num_images, steps=config.num_inference_steps, guidance=config.guidance_scale, seed=run.seed_for("anchor"),
        progress=run.progress,
    )  # fmt: skip


def anchor_pairs(concepts: Sequence[Concept], templates: int) -> list[tuple[str, str]]:
    """Pairs of a prompt that names a concept and the same with its anchor, or without the concept where there is no anchor."""
    pairs: dict[str, str] = {}
    for concept in concepts:
        chosen = [
            t
            for t in templates_for_kind(template_library(concept.kind), concept.kind)
            if concept.anchor or names_context(t)
        ]
        for template in (*concept.templates, *evenly_spaced(chosen, templates)):
            other = fill_templates([template], [concept.anchor])[0] if concept.anchor else remove_concept(template)
            pairs |= dict.fromkeys(fill_templates([template], concept.words), other)
        pairs |= dict.fromkeys(concept.prompts, concept.anchor)
    return list(pairs.items())
