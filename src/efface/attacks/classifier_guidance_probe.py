"""Classifier-guidance probe ("When Are Concepts Erased From Diffusion Models?", Lu et al., arXiv 2505.17013).

A classifier D of noised latents pulls the erased model's samples towards the concept:

    e  <-  e - s sigma_t grad_z log D(z, t)

D learns from images with and without the concept by the unedited model, at noise levels biased to high ones. Is the
concept still on the erased model's paths? A strong pull draws it into any model, so the share of images that show the
concept is reported as ``reproduction_rate``, and as a success only above that on a control model (``--control``).

Differences: one scale s for each attack instead of the best of 25 by a classifier of images; images without the concept
come from the concept's retain prompts, or, if it has none, from the templates without its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from efface.core.attack_set import AttackPrompt, AttackSet, AttackTask, Budget
from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.ops.adversarial.attack_context import AttackContext
from efface.ops.adversarial.latent_classifier import LatentClassifier, train_classifier
from efface.ops.adversarial.sampler_probe import Levels, sample_latents
from efface.ops.adversarial.start_latents import (
    concept_prompts,
    prompts_without_concept,
    start_rows,
    task_batches,
)
from efface.ops.training.latents import generate_latents

CARD = MethodCard(
    name="classifier_guidance_probe",
    title="Classifier-guidance probe",
    paper="Lu, Kriplani, Gandikota, Pham, Bau, Hegde, Cohen: When Are Concepts Erased From Diffusion Models?, "
    "NeurIPS 2025",
    arxiv="2505.17013",
    families=("sd1", "sd2", "sdxl"),
    trains="",
    needs_gradient=True,
    needs_images=True,
    reconstruction=False,
    summary="A classifier of noised latents pulls the attacked model's samples towards the concept.",
    needs_control=True,
)


@dataclass(frozen=True)
class Config:
    """Settings of the probe."""

    scale: float = field(default=60.0, metadata={"help": "Strength s of the pull.", "range": "25 to 193"})
    num_images: int = field(default=500, metadata={"help": "Number of images with, and without, the concept."})
    steps: int = field(default=5000, metadata={"help": "Number of training steps of the classifier."})
    batch_size: int = field(default=64, metadata={"help": "Number of noised images per step."})
    learning_rate: float = field(default=1e-4, metadata={"help": "AdamW's learning rate."})
    num_templates: int = field(default=24, metadata={"help": "Number of prompt templates from the library."})
    num_inference_steps: int = field(default=50, metadata={"help": "Number of sampling steps per image."})
    guidance_scale: float = field(default=7.5, metadata={"help": "Guidance scale of the sampler."})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {
        "scale": 20.0, "num_images": 768, "steps": 2000, "learning_rate": 2e-3, "num_inference_steps": 20,
        "guidance_scale": 3.0,
    },
}  # fmt: skip


def classifier_guidance_probe(
    model: EditableModel, concept: Concept, tasks: Sequence[AttackTask], config: Config, run: AttackContext
) -> AttackSet:
    """Trains the classifier and samples one image for every task."""
    if min(config.num_images, config.steps, config.batch_size) < 1:
        raise EffaceError("the probe needs num_images, steps and batch_size of at least 1")
    with run.erasure_disabled():
        shown = _latents(model, concept_prompts(concept, config.num_templates), "with", config, run)
        others = concept.retain_prompts or prompts_without_concept(concept, config.num_templates)
        absent = _latents(model, others, "without", config, run)
    settings = (config.steps, config.batch_size, config.learning_rate)
    classifier = train_classifier(model, shown, absent, *settings, run)
    rows, steps = list[AttackPrompt](), config.num_inference_steps
    for batch in task_batches(model, tasks, run, "sampling with the classifier"):
        texts, seeds = [task.prompt for task in batch], [task.seed for task in batch]

        def move(z: Tensor, epsilon: Tensor, levels: Levels) -> Tensor:
            return pulled_step(z, epsilon, levels, classifier, config.scale)

        with torch.no_grad():
            z = sample_latents(model, texts, seeds, steps, config.guidance_scale, move)
        rows += start_rows(batch, None, z, steps)
    budget = Budget(config.steps, 0.0)
    return AttackSet("classifier_guidance_probe", concept, tuple(rows), asdict(config), budget, seed=run.seed)


def pulled_step(z: Tensor, epsilon: Tensor, levels: Levels, classifier: LatentClassifier, scale: float) -> Tensor:
    """Returns the latents ``(B, C, h, w)`` after a DDIM step with the pulled prediction."""
    pulled = epsilon - scale * levels.sigma * classifier.gradient(z, levels.alpha, levels.sigma)
    clean = (z - levels.sigma * pulled) / levels.alpha
    return levels.next_alpha * clean + levels.next_sigma * pulled


def _latents(model: EditableModel, prompts: Sequence[str], label: str, config: Config, run: AttackContext) -> Tensor:
    return generate_latents(
        model,
        prompts,
        num_images=config.num_images,
        num_inference_steps=config.num_inference_steps,
        guidance_scale=config.guidance_scale,
        seed=run.seed_for("images", label),
        progress=run.progress,
    ).x0
