"""Concept Ablation (Kumari et al., "Ablating Concepts in Text-to-Image Diffusion Models", ICCV 2023, arXiv 2303.13516).

The student learns to predict, for a prompt that names the concept, what it predicts for the same prompt with an anchor in its place, on
noised pictures of the anchor:

    L = || e(z_t, t, p_target) - sg e(z_t, t, p_anchor) ||^2 + prior || e(z'_t, t', p_anchor) - noise' ||^2

with z_t = alpha_t x0 + sigma_t noise, x0 drawn by the original for p_anchor and sg a stop-gradient: the teacher is the student itself, as
published; ``teacher="original"`` takes the frozen model. The second objective of the paper, ``objective="noise"``, has the noise in place
of the teacher. ``prior`` weighs ordinary training on the anchor's pictures, which keeps the anchor where it is; ``prior_on="retain"``
takes the concept's retain prompts and pictures of these instead, and the original's prediction for noise' where the original teaches.
Keys and values of the first token are detached, as the released code has it: every prompt shares that token.

Where we differ: latents come straight out of the sampler (DDIM), not through the autoencoder and back, and are not cropped. Without an
anchor, the same sentence without the concept is the anchor ("a sketch of the woods").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from efface.core.concept import Concept, fill
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError, UnknownName
from efface.core.method_card import Card
from efface.core.subsample import spread
from efface.models.editable import Editable
from efface.ops.editing.forward_hooks import detached_first_token
from efface.ops.text.templates import fitting, has_rest, library, without
from efface.ops.training.latents import Latents, draw_latents
from efface.ops.training.run import Run
from efface.ops.training.student import Student

CARD = Card(
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
    summary="Fine-tunes the model to draw an anchor where the concept is asked for, on pictures of the anchor.",
)


@dataclass(frozen=True)
class Config:
    """Concept Ablation's hyper-parameters; the defaults are the paper's for objects and styles (batch 4 on two GPUs)."""

    sites: str = field(default="cross_kv", metadata={"help": "what is trained: cross_kv, attn_all, unet_all"})
    steps: int = field(default=100, metadata={"help": "training steps", "range": "100 to 800"})
    lr: float = field(default=1.6e-5, metadata={"help": "AdamW's learning rate: 2e-6 a picture of the batch"})
    batch: int = field(default=8, metadata={"help": "pictures a step"})
    pictures: int = field(
        default=1000, metadata={"help": "pictures of the anchor that the original draws", "range": "32 to 1000"}
    )
    sampler_steps: int = field(default=50, metadata={"help": "DDIM steps of a picture"})
    guidance: float = field(default=6.0, metadata={"help": "guidance scale of the pictures"})
    objective: str = field(
        default="model",
        metadata={"help": "what is learned for the concept: the anchor's prediction (model) or the noise"},
    )
    teacher: str = field(
        default="student", metadata={"help": "who predicts for the anchor: student (stop-gradient) or original"}
    )
    templates: int = field(
        default=0, metadata={"help": "sentences of the template library, beside the concept's own", "range": "0 to 66"}
    )
    prior: float = field(
        default=0.0, metadata={"help": "weight of the prior: what must be drawn as before", "range": "0 to 1"}
    )
    prior_on: str = field(
        default="anchor",
        metadata={"help": "what the prior keeps: pictures of the anchor, or of retain prompts (retain)"},
    )
    clip: float = field(default=1.0, metadata={"help": "largest norm of the gradient"})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {
        "sites": "attn_all",
        "lr": 2e-4,
        "steps": 300,
        "batch": 16,
        "pictures": 96,
        "sampler_steps": 20,
        "guidance": 3.0,
        "teacher": "original",
        "templates": 30,
        "prior": 2.0,
        "prior_on": "retain",
    },
}


def concept_ablation(model: Editable, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Put each concept's anchor in its place; several concepts share the steps evenly."""
    check(config, concepts)
    pairs = anchored(concepts, config.templates)
    latents = pictures(model, [anchor for _, anchor in pairs], config, run)
    kept_prompts = (
        [anchor for _, anchor in pairs] if config.prior_on == "anchor" else [r for c in concepts for r in c.retain]
    )
    prior = latents if config.prior_on == "anchor" or not config.prior else pictures(model, kept_prompts, config, run)
    with torch.no_grad():
        named, anchors = model.encode([target for target, _ in pairs]), model.encode([anchor for _, anchor in pairs])
        kept = model.encode(kept_prompts)
    student, generator = Student(model, config.sites), run.generator("batch")
    optimiser = torch.optim.AdamW(student.parameters(), lr=config.lr)
    with detached_first_token(model):
        for step in run.steps(config.steps, student.masters, optimiser, clip=config.clip):
            z, t, noise, which = latents.noised(config.batch, generator)
            with torch.no_grad():
                taught = student if config.teacher == "student" else model
                target = noise if config.objective == "noise" else taught.predict(z, t, anchors[which]).epsilon
            loss = (student.predict(z, t, named[which]).epsilon - target).square().mean()
            parts = {"ablation": loss.detach()}
            if config.prior:
                z, t, noise, which = prior.noised(config.batch, generator)
                with torch.no_grad():
                    target = noise if config.teacher == "student" else model.predict(z, t, kept[which]).epsilon
                drift = (student.predict(z, t, kept[which]).epsilon - target).square().mean()
                loss, parts = loss + config.prior * drift, {**parts, "prior": drift.detach()}
            step.minimise(loss, parts)
    edits, tensors = student.replace_edits()
    return run.erasure(edits, tensors)


def check(config: Config, concepts: Sequence[Concept]) -> None:
    """Raises `UnknownName` for a choice that is none, `EffaceError` for a prior on retain prompts that are not there."""
    choices = {"objective": ("model", "noise"), "teacher": ("student", "original"), "prior_on": ("anchor", "retain")}
    for name, known in choices.items():
        if getattr(config, name) not in known:
            raise UnknownName("choice", getattr(config, name), known)
    if config.prior_on == "retain" and not any(concept.retain for concept in concepts):
        raise EffaceError("prior_on=retain needs retain prompts: give --retain-file, or set prior_on=anchor")


def pictures(model: Editable, prompts: Sequence[str], config: Config, run: Run) -> Latents:
    """Pictures that the original draws for the prompts in turn."""
    return draw_latents(
        model, prompts, count=config.pictures, steps=config.sampler_steps, guidance=config.guidance, seed=run.seed_for("anchor"),
        progress=run.progress,
    )  # fmt: skip


def anchored(concepts: Sequence[Concept], templates: int) -> list[tuple[str, str]]:
    """Pairs of a prompt that names a concept and the same with its anchor, or without the concept where there is no anchor."""
    pairs: dict[str, str] = {}
    for concept in concepts:
        chosen = [t for t in fitting(library(concept.kind), concept.kind) if concept.anchor or has_rest(t)]
        for template in (*concept.templates, *spread(chosen, templates)):
            other = fill([template], [concept.anchor])[0] if concept.anchor else without(template)
            pairs |= dict.fromkeys(fill([template], concept.words), other)
        pairs |= dict.fromkeys(concept.prompts, concept.anchor)
    return list(pairs.items())
