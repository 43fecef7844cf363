"""Vectors with class labels, and measures of the labels' linear information."""

from __future__ import annotations

import torch
from torch import Tensor

from efface.ops.linear_erasure.probe import Probe, majority_share

DOUBLE = torch.float64


def vectors_with_labels(
    seed: int, classes: int = 2, n: int = 400, width: int = 8, gap: float = 3.0
) -> tuple[Tensor, Tensor]:
    """Returns correlated vectors whose means differ by class; every class occurs."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=generator)
    y[:classes] = torch.arange(classes)
    mix = torch.eye(width, dtype=DOUBLE) + 0.5 * torch.randn(width, width, generator=generator, dtype=DOUBLE)
    means = gap * torch.randn(classes, width, generator=generator, dtype=DOUBLE)
    return torch.randn(n, width, generator=generator, dtype=DOUBLE) @ mix + means[y] + 5.0, y


def max_cross_covariance(x: Tensor, y: Tensor, classes: int) -> float:
    """Returns the largest absolute entry of cov(x, one-hot labels)."""
    z = torch.nn.functional.one_hot(y, classes).to(DOUBLE)
    x, z = x - x.mean(0), z - z.mean(0)
    return float((x.T @ z / len(x)).abs().max())


def above_majority(x: Tensor, y: Tensor) -> float:
    """Returns how far a probe's accuracy is above the share of the most frequent class."""
    classes = int(y.max()) + 1
    return Probe.fit(x, y, classes, ridge=1e-6).accuracy(x, y) - majority_share(y)
