"""Concept Ablation (Kumari et al., ICCV 2023, arXiv 2303.13516).

The student learns to predict, for a prompt that names the concept, what it predicts for the same prompt with an anchor
instead, on noised images of the anchor:

    L = || e(z_t, t, p_concept) - sg e(z_t, t, p_anchor) ||^2 + lambda || e(z'_t, t', p_anchor) - noise' ||^2

with z_t = alpha_t x0 + sigma_t noise, x0 an image that the original generates for p_anchor, and sg the stop-gradient.
The teacher is the student itself, as published; ``teacher="original"`` uses the frozen model. The paper's second
objective, ``objective="noise"``, replaces the teacher's prediction by the noise. lambda = ``prior_weight`` weighs
ordinary denoising training on the anchor's images, which retains the anchor; ``prior_source="retain"`` trains on retain
prompts and their images instead, towards the original's predictions if the original is the teacher. As in the released
code, keys and values of the first token get no gradient, since all prompts share it.

Differences: latents come directly from the sampler (DDIM), without decoding, cropping and encoding. The released code's
first loss sums over the latents' four channels, while its second is a mean as here: its prior weight of 1 is 0.25 here
(preset ``nudity``). For a concept without anchor, the prompt without the concept is the anchor ("a sketch of the
woods"). If there are more prompts than images, those with the same anchor prompt share its images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import UnknownNameError
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.ops.editing.forward_hooks import detached_first_token
from efface.ops.text.anchor_images import AnchorImages, AnchorImageSettings, check_prior_source
from efface.ops.training.run import Run
from efface.ops.training.student import Student

CARD = MethodCard(
    name="concept_ablation",
    title="Concept Ablation",
    paper="Kumari, Zhang, Wang, Shechtman, Zhang, Zhu: Ablating Concepts in Text-to-Image Diffusion Models, ICCV 2023",
    arxiv="2303.13516",
    families=("sd1", "sd2", "sdxl", "sd3", "flux"),
    trains="cross-attention keys and values",
    needs_gradient=True,
    needs_images=True,
    reconstruction=False,
    summary="Fine-tunes the denoiser to predict an anchor where a prompt names the concept, on images of the anchor.",
)
CHOICES = {
    "objective": ("model", "noise"),
    "teacher": ("student", "original"),
}


@dataclass(frozen=True)
class Config:
    """Concept Ablation's hyper-parameters; the defaults are the paper's for objects and styles (batch 4, two GPUs)."""

    target_modules: str = field(
        default="cross_kv", metadata={"help": "Parameter group to change.", "range": "cross_kv, attn_all, unet_all"}
    )
    steps: int = field(default=100, metadata={"help": "Number of training steps.", "range": "100 to 800"})
    learning_rate: float = field(
        default=1.6e-5, metadata={"help": "Learning rate of the optimiser.", "range": "2e-6 times the batch size"}
    )
    batch_size: int = field(default=8, metadata={"help": "Number of training samples per step."})
    num_images: int = field(
        default=1000, metadata={"help": "Number of images that the original model generates.", "range": "32 to 1000"}
    )
    num_inference_steps: int = field(default=50, metadata={"help": "Number of steps of the sampler."})
    guidance_scale: float = field(default=6.0, metadata={"help": "Classifier-free guidance scale of the sampler."})
    objective: str = field(
        default="model", metadata={"help": "Target for the concept: model (the anchor's prediction) or noise."}
    )
    teacher: str = field(
        default="student", metadata={"help": "Model that predicts for the anchor: student (stop-gradient) or original."}
    )
    num_templates: int = field(
        default=0, metadata={"help": "Number of templates from the library.", "range": "0 to 66"}
    )
    prior_weight: float = field(default=0.0, metadata={"help": "Weight lambda of the prior loss.", "range": "0 to 2"})
    prior_source: str = field(
        default="anchor",
        metadata={"help": "Images of the prior loss: of the anchor, or of the retain prompts (retain)."},
    )
    max_grad_norm: float = field(default=1.0, metadata={"help": "Largest gradient norm; larger gradients are clipped."})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "sd3": {"target_modules": "text_stream_kv"},
    "flux": {"target_modules": "text_stream_kv", "guidance_scale": 3.5},
    "nudity": {"target_modules": "attn_all", "steps": 400, "learning_rate": 3.2e-5, "prior_weight": 0.25},
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
    """Maps each concept to its anchor; several concepts share the steps evenly."""
    _check_config(config, concepts)
    settings = AnchorImageSettings(
        config.num_images, config.num_inference_steps, config.guidance_scale, run.seed_for("anchor"), run.progress
    )
    images = AnchorImages.generate(
        model, concepts, config.num_templates, settings, config.prior_source if config.prior_weight else "anchor"
    )
    student = Student(model, config.target_modules)
    teacher = student if config.teacher == "student" else model
    optimiser = torch.optim.AdamW(student.parameters(), lr=config.learning_rate)
    generator = run.generator("batch")
    with detached_first_token(model):
        for step in run.steps(config.steps, student.trainable_params, optimiser, max_grad_norm=config.max_grad_norm):
            batch = images.batch(config.batch_size, generator, step.index)
            target = batch.noise
            if config.objective == "model":
                with torch.no_grad():
                    target = teacher.predict(batch.z, batch.t, batch.anchor_cond).epsilon
            loss = (student.predict(batch.z, batch.t, batch.concept_cond).epsilon - target).square().mean()
            losses = {"ablation": loss.detach()}
            if config.prior_weight:
                z, t, target, cond = images.prior_batch(config.batch_size, generator)
                if config.teacher == "original":
                    with torch.no_grad():
                        target = model.predict(z, t, cond).epsilon
                prior_loss = (student.predict(z, t, cond).epsilon - target).square().mean()
                loss = loss + config.prior_weight * prior_loss
                losses["prior"] = prior_loss.detach()
            step.optimize(loss, losses)
    return run.erasure(*student.replace_edits())


def _check_config(config: Config, concepts: Sequence[Concept]) -> None:
    """Raises `UnknownNameError` for an unknown choice, `EffaceError` for a prior loss without retain prompts."""
    for name, choices in CHOICES.items():
        if getattr(config, name) not in choices:
            raise UnknownNameError(name, getattr(config, name), choices)
    check_prior_source(config.prior_source, concepts)
