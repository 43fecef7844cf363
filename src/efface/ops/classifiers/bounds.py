"""Bounds on how far forgetting moves the parameters and the outputs, and their check on images.

Let J(D) = L(D) + rho/2 ||D||^2 be the objective with the change D of the parameters and H the entropy of the target,
which L is never below. Every D with J(D) <= J(0) satisfies ||D|| <= sqrt(2 (L(0) - H) / rho). For the last layer,
rho D = grad J(D) - grad L(D), and the gradient of L is at most the mean of ||p - t|| ||x||, which gives a second bound;
the smaller of the two holds. The logits of an image with features x move by at most ||D|| ||x||, and its
probabilities by half of that (the softmax is 1/2-Lipschitz in the Euclidean norm).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from .forgetting_loss import smallest_loss


@dataclass(frozen=True)
class ParameterBound:
    """The bound on the parameters.

    Attributes:
        measured: Euclidean norm of the change, in the anchor's metric.
        bound: the smallest bound.
        from_loss: the bound by the objective.
        from_gradient: the bound by stationarity; None for the whole network.
    """

    measured: float
    bound: float
    from_loss: float
    from_gradient: float | None

    def to_dict(self) -> dict[str, Any]:
        """Returns the numbers as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class OutputBound:
    """The bound on the logits, checked on images.

    Attributes:
        images: number of images.
        measured: largest Euclidean deviation of the logits of an image.
        bound: the bound of that image.
        largest_share: largest measured deviation as a share of its bound; at most 1.
        largest_probability_share: the same for the probabilities.
    """

    images: int
    measured: float
    bound: float
    largest_share: float
    largest_probability_share: float

    def to_dict(self) -> dict[str, Any]:
        """Returns the numbers as JSON values."""
        return asdict(self)


def loss_bound(loss_before: float, target: Tensor, rho: float) -> float:
    """Returns ``sqrt(2 (L(0) - H) / rho)``."""
    return math.sqrt(2 * max(loss_before - smallest_loss(target), 0.0) / rho)


def gradient_bound(features: Tensor, target: Tensor, rho: float, gradient_norm: float) -> float:
    """Returns the last layer's bound by stationarity.

    Args:
        features: features x of the images to forget, ``(n, d)``, in the anchor's metric.
        target: target distribution t.
        rho: weight of the anchor.
        gradient_norm: norm of the objective's gradient at the solution, 0 at the optimum.
    """
    corners = torch.eye(len(target), dtype=torch.float64) - target
    farthest = float(corners.norm(dim=-1).max())  # ||p - t|| is convex in p, so that a corner of the simplex is worst
    return (farthest * float(features.norm(dim=-1).mean()) + gradient_norm) / rho


def output_bound(before: Tensor, after: Tensor, features: Tensor, bound: float) -> OutputBound:
    """Compares the deviation of logits with its bound.

    Args:
        before: logits before, ``(n, C)``.
        after: logits after.
        features: features in the anchor's metric, ``(n, d)``.
        bound: bound on the parameters.
    """
    moved = (after - before).norm(dim=-1)
    limits = (bound * features.norm(dim=-1)).clamp(min=1e-300)
    probabilities = (after.softmax(-1) - before.softmax(-1)).norm(dim=-1)
    worst = int(moved.argmax())
    return OutputBound(
        len(before), float(moved[worst]), float(limits[worst]), float((moved / limits).max()),
        float((2 * probabilities / limits).max()),
    )  # fmt: skip
