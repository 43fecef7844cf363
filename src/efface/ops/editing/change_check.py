"""The effect check: did anything change? Running is not erasing, so every run ends with this, whatever the model and the method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from efface.core.erasure import Erasure
from efface.models.editable import EditableModel

from .apply import applied

UNCHANGED = 0.1
"""A change of the concept's images below this is none."""


@dataclass(frozen=True)
class ChangeCheck:
    """How far images moved, in units of the distance between two seeds: 0 is the same image, 1 one as different as another seed's.

    Attributes:
        concept: change of the concept's own prompts; retained: of the retain prompts, None where there are none.
        images: how many of each.
    """

    concept: float
    retained: float | None
    num_images: int

    @property
    def is_noop(self) -> bool:
        """Whether the concept's images are as they were."""
        return self.concept < UNCHANGED

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    def summary(self) -> str:
        """What a user should know."""
        kept = "" if self.retained is None else f", retained ones by {self.retained:.2f}"
        change = f"the concept's images moved by {self.concept:.2f} of the distance between two seeds{kept}"
        return f"NOTHING CHANGED: {change}; raise lr or steps" if self.is_noop else change


def image_change(before: Tensor, after: Tensor) -> float:
    """Mean absolute difference of images ``(N, 3, H, W)``, over that between each image before and the next one's."""
    spread = (before - before.roll(1, 0)).abs().mean()
    return float((after - before).abs().mean() / spread.clamp(min=1e-6))


def change_check(
    model: EditableModel, erasure: Erasure, *, images: int = 8, steps: int = 20, guidance: float = 3.0, seed: int = 0
) -> ChangeCheck:
    """Draws the concepts' prompts, and retain prompts, before and after the erasure with the same seeds."""
    wanted = [prompt for concept in erasure.concepts for prompt in (concept.prompts or concept.render_prompts())]
    retain = [prompt for concept in erasure.concepts for prompt in concept.retain_prompts]
    groups = [_cycle(group, images) for group in (wanted, retain) if group]
    seeds = range(seed, seed + images)

    def draw() -> list[Tensor]:
        return [
            model.sample(group, seeds=seeds, num_inference_steps=steps, guidance_scale=guidance) for group in groups
        ]

    before = draw()
    with applied(model, erasure), torch.no_grad():
        after = draw()
    changes = [image_change(b, a) for b, a in zip(before, after, strict=True)]
    return ChangeCheck(changes[0], changes[1] if retain else None, images)


def _cycle(prompts: Sequence[str], n: int) -> list[str]:
    return [prompts[i % len(prompts)] for i in range(n)]
