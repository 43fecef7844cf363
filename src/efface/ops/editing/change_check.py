"""The change check at the end of every run: did the erasure change any images at all?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from efface.core.erasure import Erasure
from efface.core.strength_advice import strength_advice
from efface.models.editable import EditableModel
from efface.models.image_checks import check_base_images
from efface.ops.tensor_conversion import to_image_bytes
from efface.ops.unreadable_images import flat_images

from .active_gates import active_gates
from .apply import applied

CONCEPT, RETAINED = "concept", "retained"
"""Groups of the compared images."""
NOOP_THRESHOLD = 0.1
"""A smaller change of the concept's images counts as no change."""


@dataclass(frozen=True)
class ImagePair:
    """Images of one prompt and seed, before and after the erasure.

    Attributes:
        group: ``concept`` or ``retained``.
        prompt: the prompt.
        seed: the seed of both images.
        before: bytes ``(3, H, W)``.
        after: bytes ``(3, H, W)``.
    """

    group: str
    prompt: str
    seed: int
    before: Tensor
    after: Tensor


@dataclass(frozen=True)
class ChangeCheck:
    """How far an erasure moved images, relative to the difference between two seeds.

    0 means identical images, 1 as different as images of two seeds.

    Attributes:
        concept: change of the images of the concepts' prompts.
        retained: change of the images of the retain prompts; None without retain prompts.
        num_images: number of images of each.
        num_flat: number of the concept's images that have one flat colour after the erasure, such as black ones.
        pairs: the images.
        settings: names of the method's settings, of which the summary names those that help.
    """

    concept: float
    retained: float | None
    num_images: int
    num_flat: int = 0
    pairs: tuple[ImagePair, ...] = field(default=(), repr=False, compare=False)
    gates: tuple[dict[str, Any], ...] = ()
    settings: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @property
    def is_noop(self) -> bool:
        """Whether the concept's images did not change."""
        return self.concept < NOOP_THRESHOLD

    def to_dict(self) -> dict[str, Any]:
        """Returns all fields but the images as plain JSON."""
        return {name: getattr(self, name) for name in ("concept", "retained", "num_images", "num_flat")}

    def summary(self) -> str:
        """Describes the change in one line for the user."""
        retained = "" if self.retained is None else f", those of the retain prompts by {self.retained:.2f}"
        if self.num_flat:
            return (
                f"DESTROYED: {self.num_flat} of {self.num_images} images of the concept have one flat colour; "
                f"{strength_advice(self.settings, stronger=False)}"
            )
        change = f"the concept's images moved by {self.concept:.2f} of the distance between two seeds{retained}"
        return f"NOTHING CHANGED: {change}; {strength_advice(self.settings, stronger=True)}" if self.is_noop else change


def image_change(before: Tensor, after: Tensor) -> float:
    """Mean absolute change of images ``(N, 3, H, W)`` over the mean absolute difference of neighbouring images."""
    spread = (before - before.roll(1, 0)).abs().mean()
    return float((after - before).abs().mean() / spread.clamp(min=1e-6))


def change_check(
    model: EditableModel,
    erasure: Erasure,
    *,
    num_images: int = 8,
    num_inference_steps: int = 20,
    seed: int = 0,
) -> ChangeCheck:
    """Compares images of the concepts' prompts and of the retain prompts with and without the erasure, same seeds.

    Args:
        model: the model without the erasure.
        erasure: the erasure.
        num_images: images of the concepts and of the retain prompts each.
        num_inference_steps: steps of the sampler.
        seed: seed of the first image; the others follow.
    """
    concept_prompts = [p for concept in erasure.concepts for p in (concept.prompts or concept.render_prompts())]
    retain_prompts = [prompt for concept in erasure.concepts for prompt in concept.retain_prompts]
    groups = [_cycle(group, num_images) for group in (concept_prompts, retain_prompts) if group]
    seeds = range(seed, seed + num_images)

    def generate() -> list[Tensor]:
        scale = model.default_guidance_scale
        return [
            model.sample(group, seeds=seeds, num_inference_steps=num_inference_steps, guidance_scale=scale)
            for group in groups
        ]

    before = [check_base_images(images) for images in generate()]
    with applied(model, erasure), torch.no_grad():
        after = generate()
        gates = tuple({"gate": gate.label, "strengths": dict(gate.log)} for gate in active_gates(model))
    changes = [image_change(b, a) for b, a in zip(before, after, strict=True)]
    num_flat = sum(flat_images(after[0]))
    pairs = _image_pairs(groups, seeds, before, after)
    settings = tuple(erasure.spec.config)
    retained = changes[1] if retain_prompts else None
    return ChangeCheck(changes[0], retained, num_images, num_flat, pairs, gates, settings)


def _image_pairs(
    groups: Sequence[Sequence[str]], seeds: Sequence[int], before: Sequence[Tensor], after: Sequence[Tensor]
) -> tuple[ImagePair, ...]:
    return tuple(
        ImagePair(name, prompt, seed, to_image_bytes(old), to_image_bytes(new))
        for name, prompts, old_images, new_images in zip((CONCEPT, RETAINED), groups, before, after, strict=False)
        for prompt, seed, old, new in zip(prompts, seeds, old_images, new_images, strict=True)
    )


def _cycle(prompts: Sequence[str], count: int) -> list[str]:
    return [prompts[i % len(prompts)] for i in range(count)]
