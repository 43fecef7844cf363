"""Images of anchors on which prompts that name a concept are trained, and images of a prior loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from efface.core.concept import Concept
from efface.core.errors import EffaceError, UnknownNameError
from efface.core.subsample import spread
from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning
from efface.ops.training.latents import Latents, generate_latents
from efface.ops.training.progress import Progress
from efface.ops.training.shared_images import SharedImages

from .anchor_prompts import anchor_pairs

PRIOR_SOURCES = ("anchor", "retain")


@dataclass(frozen=True)
class AnchorImageSettings:
    """How the original generates images.

    Attributes:
        num_images: number of images of the anchors, and of the retain prompts.
        num_inference_steps: steps of the sampler.
        guidance_scale: classifier-free guidance scale.
        seed: seed of the images.
        progress: receives the number of finished images.
    """

    num_images: int
    num_inference_steps: int
    guidance_scale: float
    seed: int
    progress: Progress

    def generate(self, model: EditableModel, prompts: Sequence[str]) -> Latents:
        """Generates images with the original model, one prompt after another."""
        return generate_latents(
            model,
            prompts,
            num_images=self.num_images,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            seed=self.seed,
            progress=self.progress,
        )


@dataclass(frozen=True)
class AnchorBatch:
    """Noised images of anchors.

    Attributes:
        z: noised latents, ``(B, C, H, W)``.
        t: timesteps, ``(B,)``.
        noise: the noise, ``(B, C, H, W)``.
        concept_cond: conditioning of prompts that name a concept.
        anchor_cond: conditioning of the same prompts with the anchor; where prompts share images, of one of them.
    """

    z: Tensor
    t: Tensor
    noise: Tensor
    concept_cond: Conditioning
    anchor_cond: Conditioning


@dataclass(frozen=True)
class AnchorImages:
    """Images of each concept's anchor (`anchor_pairs`), and those of a prior loss.

    Attributes:
        shared: which prompts an image serves.
        latents: images of the anchors.
        concept_cond: conditioning of the prompts that name a concept.
        anchor_cond: conditioning of the prompts of the images.
        prior_latents: images of the prior loss.
        prior_cond: conditioning of their prompts.
    """

    shared: SharedImages
    latents: Latents
    concept_cond: Conditioning
    anchor_cond: Conditioning
    prior_latents: Latents
    prior_cond: Conditioning

    @classmethod
    @torch.no_grad()
    def generate(
        cls,
        model: EditableModel,
        concepts: Sequence[Concept],
        num_templates: int,
        settings: AnchorImageSettings,
        prior_source: str = "anchor",
    ) -> AnchorImages:
        """Generates the images with the original model.

        Args:
            model: the original model.
            concepts: the concepts.
            num_templates: number of templates from the library, besides the concepts' own.
            settings: of the images.
            prior_source: ``anchor`` for the same images, ``retain`` for images of the retain prompts.

        Raises:
            UnknownNameError: an unknown prior source.
            EffaceError: too few images, or no retain prompts for images of them.
        """
        check_prior_source(prior_source, concepts)
        pairs = [anchor_pairs(concept, num_templates) for concept in concepts]
        prompts = [prompt for rows in pairs for prompt in rows]
        shared = SharedImages.assign([tuple(rows.values()) for rows in pairs], settings.num_images)
        latents = prior_latents = settings.generate(model, shared.image_prompts)
        prior_prompts = shared.image_prompts
        if prior_source == "retain":
            prior_prompts = retain_prompts(concepts, settings.num_images)
            prior_latents = settings.generate(model, prior_prompts)
        conds = map(model.encode, (prompts, shared.image_prompts, prior_prompts))
        concept_cond, anchor_cond, prior_cond = conds
        return cls(shared, latents, concept_cond, anchor_cond, prior_latents, prior_cond)

    def batch(self, batch_size: int, generator: torch.Generator, step: int) -> AnchorBatch:
        """Samples noised images of the anchors; prompts that share an image take turns by the number of the step."""
        z, t, noise, index = self.latents.noised_batch(batch_size, generator)
        rows = self.shared.training_prompts(index, step)
        return AnchorBatch(z, t, noise, self.concept_cond[rows], self.anchor_cond[index])

    def prior_batch(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Conditioning]:
        """Samples noised images of the prior loss: latents, timesteps, noise and conditioning of their prompts."""
        z, t, noise, index = self.prior_latents.noised_batch(batch_size, generator)
        return z, t, noise, self.prior_cond[index]


def retain_prompts(concepts: Sequence[Concept], num_images: int) -> tuple[str, ...]:
    """Returns the retain prompts, or as many of each concept as images suffice for."""
    prompts = tuple(prompt for concept in concepts for prompt in concept.retain_prompts)
    if len(prompts) <= num_images:
        return prompts
    return tuple(spread([concept.retain_prompts for concept in concepts], num_images))


def check_prior_source(source: str, concepts: Sequence[Concept]) -> None:
    """Raises `UnknownNameError` for another source, `EffaceError` for retain prompts that no concept has."""
    if source not in PRIOR_SOURCES:
        raise UnknownNameError("prior_source", source, PRIOR_SOURCES)
    if source == "retain" and not any(concept.retain_prompts for concept in concepts):
        raise EffaceError("prior_source=retain needs retain prompts: give --retain-file, or set prior_source=anchor")
