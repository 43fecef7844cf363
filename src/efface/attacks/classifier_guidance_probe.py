"""Classifier-guidance probe ("When Are Concepts Erased From Diffusion Models?", Lu et al., arXiv 2505.17013).

A classifier D of noised latents pulls the erased model's samples towards the concept:

    e  <-  e - s sigma_t grad_z log D(z, t)

D learns from images with and without the concept by the unedited model, at noise levels biased to high ones. Of the
images of a prompt with 25 strengths s, the one stays that shows the concept best. Is the concept still on
the erased model's paths? The best of many images, strongly pulled, may show it with any model, so the share of images
that do is the ``reproduction_rate``, and a success only above that on a control model (``--control``).

Differences: the images are compared by their CLIP score for the prompt instead of by an ImageNet classifier; D
is convolutional instead of fully connected; images without the concept come half from the concept's retain prompts,
or, if it has none, from the templates without its name, and half from the empty prompt. Departures in the preset for
pocket: ``normalize_gradient`` scales the gradient to the prediction's norm, as log D is flat where D is sure;
``pulled_share`` below 1 pulls in the first steps alone, which settle what an image shows.
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
from efface.detectors.zero_shot import Scorer, load_scorer
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

    normalize_gradient: bool = field(
        default=False, metadata={"help": "Whether the gradient is scaled to the norm of the noise prediction."}
    )
    pulled_share: float = field(
        default=1.0,
        metadata={"help": "Share of the sampling steps that are pulled, from the first.", "range": "0 to 1"},
    )
    min_scale: float = field(default=25.0, metadata={"help": "Least strength s of the pull."})
    max_scale: float = field(default=193.0, metadata={"help": "Greatest strength s of the pull."})
    num_scales: int = field(default=25, metadata={"help": "Number of strengths; the best image of each prompt counts."})
    image_tower: str = field(
        default="openai/clip-vit-large-patch14",
        metadata={"help": "CLIP model that chooses the best image: folder or hub id."},
    )
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
        "normalize_gradient": True, "pulled_share": 0.3, "min_scale": 0.0, "max_scale": 1.0, "num_scales": 5,
        "image_tower": "pocket-clip", "num_images": 768, "steps": 4000, "learning_rate": 2e-3,
        "num_inference_steps": 20, "guidance_scale": 3.0,
    },
}  # fmt: skip


def classifier_guidance_probe(
    model: EditableModel, concept: Concept, tasks: Sequence[AttackTask], config: Config, run: AttackContext
) -> AttackSet:
    """Trains the classifier and samples one image for every task."""
    if min(config.num_images, config.steps, config.batch_size, config.num_scales) < 1:
        raise EffaceError("the probe needs num_images, steps, batch_size and num_scales of at least 1")
    if not 0 < config.pulled_share <= 1:
        raise EffaceError(f"pulled_share must be above 0 and at most 1, not {config.pulled_share}")
    scorer = load_scorer(config.image_tower, model.device) if config.num_scales > 1 else None
    with run.erasure_disabled():
        shown = _latents(model, concept_prompts(concept, config.num_templates), "with", config, run)
        others = [*(concept.retain_prompts or prompts_without_concept(concept, config.num_templates))]
        others += [""] * len(others)
        absent = _latents(model, others, "without", config, run)
    settings = (config.steps, config.batch_size, config.learning_rate)
    classifier = train_classifier(model, shown, absent, *settings, run)
    rows = list[AttackPrompt]()
    for batch in task_batches(model, tasks, run, "sampling with the classifier"):
        z = _best_latents(model, batch, classifier, scorer, config)
        rows += start_rows(batch, None, z, config.num_inference_steps)
    budget = Budget(config.steps, 0.0)
    return AttackSet("classifier_guidance_probe", concept, tuple(rows), asdict(config), budget, seed=run.seed)


@torch.no_grad()
def _best_latents(
    model: EditableModel, tasks: Sequence[AttackTask], classifier: LatentClassifier, scorer: Scorer | None,
    config: Config,
) -> Tensor:  # fmt: skip
    """Samples an image of each task with every strength; returns the latents ``(B, C, h, w)`` of the best of each."""
    texts, seeds = [task.prompt for task in tasks], [task.seed for task in tasks]
    num_pulled = max(1, round(config.pulled_share * config.num_inference_steps))
    latents, scores = list[Tensor](), list[Tensor]()
    for scale in torch.linspace(config.min_scale, config.max_scale, config.num_scales).tolist():

        def move(z: Tensor, epsilon: Tensor, levels: Levels, scale: float = scale) -> Tensor:
            s = scale if levels.index < num_pulled else 0.0
            return pulled_step(z, epsilon, levels, classifier, s, config.normalize_gradient)

        z = sample_latents(model, texts, seeds, config.num_inference_steps, config.guidance_scale, move)
        latents.append(z)
        scores.append(scorer(model.decode(z), texts).to(z.device) if scorer else torch.zeros(len(z), device=z.device))
    best = torch.stack(scores).argmax(0)
    return torch.stack(latents)[best, torch.arange(len(tasks), device=best.device)]


def pulled_step(
    z: Tensor, epsilon: Tensor, levels: Levels, classifier: LatentClassifier, scale: float, normalize: bool
) -> Tensor:
    """Returns the latents ``(B, C, h, w)`` after a DDIM step with the pulled prediction."""
    pulled = epsilon
    if scale:
        gradient = classifier.gradient(z, levels.alpha, levels.sigma)
        if normalize:
            norm, wanted = (x.flatten(1).norm(dim=1).view(-1, 1, 1, 1) for x in (gradient, epsilon))
            gradient = gradient * wanted / norm.clamp(min=torch.finfo(norm.dtype).tiny)
        pulled = epsilon - scale * levels.sigma * gradient
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
