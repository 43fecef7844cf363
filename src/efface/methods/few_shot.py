"""Few-shot unlearning of the text encoder (Fuchi and Takagi, BMVC 2024, arXiv 2405.07288).

A few images x of the concept, and gradient ascent on the loss of textual inversion: the text encoder E unlearns that
the concept's word describes them, and the denoiser e stays as it is.

    z_t = alpha_t x + sigma_t noise
    L   = - || e(z_t, t, E(p)) - noise ||^2        p: a random prompt that names the concept

The paper trains the MLPs of all layers and the self-attention of the last one (``text_mlp+text_attn:last``), with about
ten steps on four images. The images come from ``image_folder``, for several concepts from a folder of each one's name
in it; without a folder the original generates ``num_images`` of each concept. L has no lower bound: more steps destroy
the encoder. ``error_limit`` > 0 ends the ascent for an image whose error has reached it.

Differences: an image's latent is the mean of the VAE's posterior, not a sample, and images are not flipped. The error
of v-prediction models is the noise's, too. The prompts are the concept's own and ``num_templates`` of the library. The
paper has no retain loss; that of ``retain_weight`` is AdvUnlearn's (arXiv 2405.15234).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.ops.retention.retain_set import RetainSet
from efface.ops.text.erase_prompts import collect_erase_prompts
from efface.ops.training.image_folder import encode_folder
from efface.ops.training.latents import Latents, generate_latents
from efface.ops.training.run import Run
from efface.ops.training.schedule import set_learning_rate
from efface.ops.training.student import Student
from efface.ops.training.trajectory_config import TrajectoryConfig

CARD = MethodCard(
    name="few_shot",
    title="Few-shot unlearning",
    paper="Fuchi, Takagi: Erasing Concepts from Text-to-Image Diffusion Models with Few-shot Unlearning, BMVC 2024",
    arxiv="2405.07288",
    families=("sd1", "sd2", "sdxl"),
    trains="MLPs and the last self-attention of the text encoder",
    needs_gradient=True,
    needs_images=True,
    reconstruction=False,
    summary="Trains the text encoder by gradient ascent on a few images of the concept, in seconds.",
)


@dataclass(frozen=True)
class Config:
    """The hyper-parameters of few-shot unlearning; the defaults are the paper's."""

    target_modules: str = field(
        default="text_mlp+text_attn:last",
        metadata={"help": "Parameter group to change.", "range": "text_mlp, text_attn, text_mlp+text_attn, text_all"},
    )
    steps: int = field(default=8, metadata={"help": "Number of training steps.", "range": "8 to 10"})
    learning_rate: float = field(default=1e-5, metadata={"help": "Learning rate of the optimiser."})
    schedule: str = field(default="constant", metadata={"help": "Learning-rate schedule: constant or cosine."})
    batch_size: int = field(default=2, metadata={"help": "Number of training samples per step."})
    image_folder: str = field(default="", metadata={"help": "Folder of images of the concept; empty: generate them."})
    num_images: int = field(default=4, metadata={"help": "Number of generated images of each concept."})
    guidance_scale: float = field(default=7.5, metadata={"help": "Classifier-free guidance scale of the sampler."})
    num_inference_steps: int = field(default=50, metadata={"help": "Number of steps of the sampler."})
    num_templates: int = field(
        default=27, metadata={"help": "Number of templates from the library.", "range": "0 to 66"}
    )
    error_limit: float = field(
        default=0.0, metadata={"help": "Error of an image at which its ascent ends; 0: never.", "range": "1 to 2"}
    )
    retain_weight: float = field(default=0.0, metadata={"help": "Weight of the retain loss.", "range": "0 to 20"})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {
        "steps": 100,
        "learning_rate": 3e-4,
        "schedule": "cosine",
        "batch_size": 8,
        "num_images": 16,
        "guidance_scale": 3.0,
        "num_inference_steps": 20,
        "num_templates": 66,
        "error_limit": 1.0,
        "retain_weight": 20.0,
    },
}


def few_shot(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Unlearns the concepts' images; the images of several concepts are drawn alike."""
    prompts = [collect_erase_prompts([concept], config.num_templates)[0] for concept in concepts]
    images = _concept_images(model, concepts, config, run)
    student = Student(model, config.target_modules)
    trajectories = TrajectoryConfig(1, config.num_inference_steps, config.guidance_scale)
    retain_set = RetainSet.if_weighted(config.retain_weight, model, concepts, trajectories, run)
    optimiser = torch.optim.Adam(student.parameters(), config.learning_rate, (0.9, 0.98), 1e-6, weight_decay=1e-8)
    for step in run.steps(config.steps, student.trainable_params, optimiser):
        set_learning_rate(optimiser, config.learning_rate, config.schedule, step.index, config.steps)
        z, t, noise, concept_index = images.noised_batch(config.batch_size, run.generator("batch"))
        draws = torch.rand(config.batch_size, generator=run.generator("prompt")).tolist()
        owners = [prompts[i] for i in concept_index.tolist()]
        cond = student.encode([rows[int(draw * len(rows))] for rows, draw in zip(owners, draws, strict=True)])
        errors = (student.predict(z, t, cond).epsilon - noise).square().flatten(1).mean(1)
        loss = -_limited(errors, config.error_limit).mean()
        losses = {"error": errors.detach().mean()}
        if retain_set is not None:
            losses["retain"] = retain_set.random_loss(student, config.batch_size, run.generator("retain"))
            loss = loss + config.retain_weight * losses["retain"]
        step.optimize(loss, {name: part.detach() for name, part in losses.items()})
    return run.erasure(*student.replace_edits())


def _limited(errors: Tensor, limit: float) -> Tensor:
    """Returns the errors ``(B,)``, without gradient where they exceed the limit."""
    return errors.clamp(max=limit) if limit else errors


def _concept_images(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Latents:
    """Returns the images of the concepts; the prompt index is the concept's."""
    if config.image_folder:
        return encode_folder(model, concepts, config.image_folder)
    groups = [
        generate_latents(
            model,
            concept.prompts or concept.render_prompts(),
            num_images=config.num_images,
            num_inference_steps=config.num_inference_steps,
            guidance_scale=config.guidance_scale,
            seed=run.seed_for("images", concept.name),
            progress=run.progress,
        )
        for concept in concepts
    ]
    index = torch.arange(len(concepts)).repeat_interleave(config.num_images)
    return Latents(model, torch.cat([group.x0 for group in groups]), index)
