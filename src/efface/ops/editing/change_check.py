"""The effect check: did anything change? Running is not erasing, so every run ends with this, whatever the model and the method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from efface.core.erasure import Erasure
from efface.models.editable import Editable

from .apply import applied

UNCHANGED = 0.1
"""A change of the concept's pictures below this is none."""


@dataclass(frozen=True)
class Effect:
    """How far pictures moved, in units of the distance between two seeds: 0 is the same picture, 1 one as different as another seed's.

    Attributes:
        concept: change of the concept's own prompts; retained: of the retain prompts, None where there are none.
        pictures: how many of each.
    """

    concept: float
    retained: float | None
    pictures: int

    @property
    def nothing(self) -> bool:
        """Whether the concept's pictures are as they were."""
        return self.concept < UNCHANGED

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    def one_line(self) -> str:
        """What a user should know."""
        kept = "" if self.retained is None else f", retained ones by {self.retained:.2f}"
        change = f"the concept's pictures moved by {self.concept:.2f} of the distance between two seeds{kept}"
        return f"NOTHING CHANGED: {change}; raise lr or steps" if self.nothing else change


def moved(before: Tensor, after: Tensor) -> float:
    """Mean absolute difference of pictures ``(N, 3, H, W)``, over that between each picture before and the next one's."""
    spread = (before - before.roll(1, 0)).abs().mean()
    return float((after - before).abs().mean() / spread.clamp(min=1e-6))


def effect_check(
    model: Editable, erasure: Erasure, *, pictures: int = 8, steps: int = 20, guidance: float = 3.0, seed: int = 0
) -> Effect:
    """Draws the concepts' prompts, and retain prompts, before and after the erasure with the same seeds."""
    wanted = [prompt for concept in erasure.concepts for prompt in (concept.prompts or concept.expand())]
    retain = [prompt for concept in erasure.concepts for prompt in concept.retain]
    groups = [_cycle(group, pictures) for group in (wanted, retain) if group]
    seeds = range(seed, seed + pictures)

    def draw() -> list[Tensor]:
        return [model.sample(group, seeds=seeds, steps=steps, guidance=guidance) for group in groups]

    before = draw()
    with applied(model, erasure), torch.no_grad():
        after = draw()
    changes = [moved(b, a) for b, a in zip(before, after, strict=True)]
    return Effect(changes[0], changes[1] if retain else None, pictures)


def _cycle(prompts: Sequence[str], n: int) -> list[str]:
    return [prompts[i % len(prompts)] for i in range(n)]
