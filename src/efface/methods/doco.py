"""DoCo: concept domain correction and concept-preserving gradient (Wu et al., AAAI 2025, arXiv 2405.15304).

A discriminator D learns to tell the clean latents that the student e predicts for prompts p_c with the concept from
those that the original e* predicts for the same prompts with an anchor, p_a; the student learns to deceive it, on
noised images of the anchor:

    x_c = x0( e(z_t, t, p_c) )      x_a = x0( e*(z_t, t, p_a) )      x0(e) = ( z_t - sigma_t e ) / alpha_t
    D:  BCE( D(x_a), 0 ) + BCE( D(x_c), 1 )                          every step, alone in the first ``warmup_steps``
    e:  g_adv = d/dtheta BCE( D(x_c), 0 )
        g_pri = d/dtheta || e(z'_t, t', p'_a) - noise' ||^2          both with a norm of 1 at most
        where <g_adv, g_pri> < 0:  g_adv <- g_adv - lambda <g_adv, g_pri> g_pri / |g_pri|^2       tensor by tensor
        theta <- AdamW( g_adv )

g_pri itself is never descended, only protected. lambda = ``surgery_strength``; ``surgery=none`` descends the weighted
sum of both losses instead (``prior_weight``). Keys and values of the first token get no gradient, as in Concept
Ablation. D is thrown away.

Preset ``released`` is the published code: (1) its projection leaves out |g_adv|, so that a small g_adv becomes a step
that descends the prior loss (``surgery=released``); (2) D also takes the student's gradient of BCE( D(x_c), 0 )
(``clear_discriminator_gradient=False``). Its loss mask, unused there, is left out.

Differences: latents come directly from the sampler. D has as many layers as the latents' size needs. For a concept
without anchor, the prompt without the concept is the anchor. ``prior_source="retain"`` protects the original's
predictions for images of retain prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import UnknownNameError
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.ops.adversarial.patch_discriminator import PatchDiscriminator
from efface.ops.editing.forward_hooks import detached_first_token
from efface.ops.text.anchor_images import AnchorBatch, AnchorImages, AnchorImageSettings
from efface.ops.training.gradient_surgery import SCALES, GradientSurgery
from efface.ops.training.run import Run
from efface.ops.training.schedule import set_learning_rate
from efface.ops.training.student import Student

CARD = MethodCard(
    name="doco",
    title="DoCo",
    paper="Wu et al.: Unlearning Concepts in Diffusion Model via Concept Domain Correction and Concept Preserving "
    "Gradient, AAAI 2025",
    arxiv="2405.15304",
    families=("sd1", "sd2", "sdxl"),
    trains="cross-attention keys and values, against a discriminator",
    needs_gradient=True,
    needs_images=True,
    reconstruction=False,
    summary="Aligns images of the concept with the anchor's by a discriminator, and protects the rest from the update.",
)
SURGERIES = (*SCALES, "none")


@dataclass(frozen=True)
class Config:
    """DoCo's hyper-parameters; the defaults are the paper's for styles."""

    target_modules: str = field(
        default="cross_kv", metadata={"help": "Parameter group to change.", "range": "cross_kv, attn_all"}
    )
    warmup_steps: int = field(default=1000, metadata={"help": "Number of first steps of the discriminator alone."})
    steps: int = field(default=1000, metadata={"help": "Number of training steps."})
    learning_rate: float = field(
        default=4.8e-5, metadata={"help": "Learning rate of the optimiser.", "range": "6e-6 times the batch size"}
    )
    schedule: str = field(default="constant", metadata={"help": "Learning-rate schedule: constant or cosine."})
    discriminator_learning_rate: float = field(
        default=5e-4, metadata={"help": "Learning rate of the discriminator.", "range": "1e-4 (objects) to 5e-4"}
    )
    batch_size: int = field(default=8, metadata={"help": "Number of training samples per step."})
    surgery: str = field(
        default="projection", metadata={"help": "Gradient surgery: projection, released, or none (a weighted sum)."}
    )
    surgery_strength: float = field(
        default=1.0, metadata={"help": "Strength lambda of the surgery.", "range": "0 to 1"}
    )
    prior_weight: float = field(default=0.1, metadata={"help": "Weight of the prior loss without surgery."})
    prior_source: str = field(
        default="anchor",
        metadata={"help": "Images of the prior loss: of the anchor, or of the retain prompts (retain)."},
    )
    clear_discriminator_gradient: bool = field(
        default=True, metadata={"help": "Keep the student's objective out of the discriminator's gradient."}
    )
    num_images: int = field(
        default=1000, metadata={"help": "Number of images that the original model generates.", "range": "32 to 1000"}
    )
    num_inference_steps: int = field(default=50, metadata={"help": "Number of steps of the sampler."})
    guidance_scale: float = field(default=6.0, metadata={"help": "Classifier-free guidance scale of the sampler."})
    num_templates: int = field(
        default=0, metadata={"help": "Number of templates from the library.", "range": "0 to 66"}
    )


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "released": {"surgery": "released", "clear_discriminator_gradient": False},
    "object": {"discriminator_learning_rate": 1e-4},
    "pocket": {
        "target_modules": "attn_all",
        "warmup_steps": 100,
        "steps": 300,
        "learning_rate": 2e-4,
        "batch_size": 16,
        "num_images": 96,
        "num_inference_steps": 20,
        "guidance_scale": 3.0,
        "num_templates": 30,
        "prior_source": "retain",
        "surgery": "none",
        "prior_weight": 2.0,
    },
}


def doco(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Aligns each concept's domain with its anchor's; several concepts share the steps evenly."""
    if config.surgery not in SURGERIES:
        raise UnknownNameError("surgery", config.surgery, SURGERIES)
    settings = AnchorImageSettings(
        config.num_images, config.num_inference_steps, config.guidance_scale, run.seed_for("anchor"), run.progress
    )
    images = AnchorImages.generate(model, concepts, config.num_templates, settings, config.prior_source)
    _, channels, size, _ = images.latents.x0.shape
    rate = config.discriminator_learning_rate
    discriminator = PatchDiscriminator(channels, size, rate, run.generator("discriminator"), model.device)
    student = Student(model, config.target_modules)
    with detached_first_token(model):
        if config.warmup_steps:
            _train_discriminator(discriminator, student, images, config, run)
        _train(discriminator, student, images, config, run)
    return run.erasure(*student.replace_edits())


def _train_discriminator(
    discriminator: PatchDiscriminator, student: Student, images: AnchorImages, config: Config, run: Run
) -> None:
    """Trains D alone, on predictions of the student before its training."""
    parameters, optimiser = discriminator.trainable_params, discriminator.optimiser
    for step in run.steps(config.warmup_steps, parameters, optimiser, phase="discriminator"):
        batch = images.batch(config.batch_size, run.generator("batch"), step.index)
        with torch.no_grad():
            x_c = student.predict(batch.z, batch.t, batch.concept_cond).x0
        step.optimize(_discriminator_loss(discriminator, student.model, batch, x_c, config))


def _train(discriminator: PatchDiscriminator, student: Student, images: AnchorImages, config: Config, run: Run) -> None:
    """Trains D and the student in turn."""
    surgery = GradientSurgery(config.surgery_strength, config.surgery) if config.surgery != "none" else None
    optimiser = torch.optim.AdamW(student.parameters(), lr=config.learning_rate)
    state = {"discriminator": discriminator}
    for step in run.steps(config.steps, student.trainable_params, optimiser, extra_state=state):
        set_learning_rate(optimiser, config.learning_rate, config.schedule, step.index, config.steps)
        batch = images.batch(config.batch_size, run.generator("batch"), step.index)
        x_c = student.predict(batch.z, batch.t, batch.concept_cond).x0
        discriminator_loss = _discriminator_loss(discriminator, student.model, batch, x_c.detach(), config)
        discriminator.update(discriminator_loss)
        loss = adversarial_loss = discriminator.loss(x_c, 0)
        prior_loss = _prior_loss(student, images, config, run)
        if surgery is None:
            loss = loss + config.prior_weight * prior_loss
        losses = {"adversarial": adversarial_loss, "prior": prior_loss, "discriminator": discriminator_loss}
        step.backward(loss, {name: part.detach() for name, part in losses.items()})
        if surgery is not None:
            surgery.apply(student.trainable_params, prior_loss)
        step.update()


def _discriminator_loss(
    discriminator: PatchDiscriminator, model: EditableModel, batch: AnchorBatch, x_c: Tensor, config: Config
) -> Tensor:
    """Computes D's loss; ``x_c`` are the student's clean latents, without gradient."""
    with torch.no_grad():
        x_a = model.predict(batch.z, batch.t, batch.anchor_cond).x0
    loss = discriminator.loss(x_a, 0) + discriminator.loss(x_c, 1)
    return loss if config.clear_discriminator_gradient else loss + discriminator.loss(x_c, 0)


def _prior_loss(student: Student, images: AnchorImages, config: Config, run: Run) -> Tensor:
    """Computes the prior loss, against the noise or, on retain prompts, the original's predictions."""
    z, t, target, cond = images.prior_batch(config.batch_size, run.generator("prior"))
    if config.prior_source == "retain":
        with torch.no_grad():
            target = student.model.predict(z, t, cond).epsilon
    return (student.predict(z, t, cond).epsilon - target).square().mean()
