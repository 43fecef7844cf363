"""Predictions of a classifier on an image set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from efface.core.subsample import evenly_spaced
from efface.models.classifier import ClassifierModel

from .image_set import UNKNOWN, ImageSet

SHOWN = 12
"""Number of images of a group that the evidence lists."""


@dataclass(frozen=True)
class Predictions:
    """Probabilities of all classes for images with known or unknown classes.

    Attributes:
        probabilities: ``(N, C)`` float64 on the CPU.
        labels: the right classes, ``(N,)``; `UNKNOWN` where they are not known.
    """

    probabilities: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def right(self) -> Tensor:
        """Whether the likeliest class is the right one, ``(N,)``."""
        return self.probabilities.argmax(-1) == self.labels

    @property
    def num_right(self) -> int:
        """Number of right predictions."""
        return int(self.right.sum())

    @property
    def confidence(self) -> Tensor:
        """Probability of the right class, ``(N,)``; of the likeliest one where it is not known."""
        known = self.probabilities.gather(1, self.labels.clamp(min=0)[:, None])[:, 0]
        return torch.where(self.labels == UNKNOWN, self.probabilities.max(-1).values, known)

    @property
    def entropy(self) -> Tensor:
        """Entropy of the predictions in nats, ``(N,)``."""
        return -torch.special.xlogy(self.probabilities, self.probabilities).sum(-1)

    @property
    def mean_entropy(self) -> float:
        """Mean entropy in nats."""
        return float(self.entropy.mean())

    def to_dict(self) -> dict[str, Any]:
        """Returns counts and means as JSON values."""
        return {"images": len(self), "right": self.num_right, "entropy": self.mean_entropy}

    def rows(self, after: Predictions, group: str, classes: Sequence[str]) -> list[dict[str, Any]]:
        """Returns up to `SHOWN` images, evenly spaced, with the likeliest class before (self) and after."""
        rows = []
        for i in evenly_spaced(range(len(self)), SHOWN):
            label = int(self.labels[i])
            expected = classes[label] if label != UNKNOWN else ""
            old, new = (_likeliest(item.probabilities[i], classes) for item in (self, after))
            row = {"group": group, "prompt": f"image {i + 1}", "before": old, "after": new, "expected": expected}
            known = {"right_before": bool(self.right[i]), "right_after": bool(after.right[i])} if expected else {}
            rows.append(row | known)
        return rows


@torch.no_grad()
def predict(model: ClassifierModel, images: ImageSet) -> Predictions:
    """Runs a classifier on every image."""
    parts = [model.logits(batch).double().softmax(-1).cpu() for batch in images.batches(model)]
    return Predictions(torch.cat(parts), torch.tensor(images.labels))


def _likeliest(probabilities: Tensor, classes: Sequence[str]) -> str:
    value, index = probabilities.max(-1)
    return f"{classes[int(index)]} ({float(value):.1%})"
