"""INLP: iterative nullspace projection (Ravfogel et al., "Null It Out", ACL 2020, arXiv 2004.07667).

    repeat:  w_i <- a linear classifier of z on P x;   P <- I - projection on span(w_1 .. w_i)

until a classifier does no better on held-out rows than the most frequent class, or n times. The published P, the intersection of the null
spaces of all classifiers, is computed from an orthonormal basis of their rows instead of from a sum of projections.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from efface.core.errors import EffaceError

from .array_validation import Array, labels, vectors
from .base import LinearEraser
from .probe import Probe, majority, split


class InlpEraser(LinearEraser):
    """Erasure of classes by classifiers, one after another.

    Args:
        iterations: at most so many classifiers; each takes a dimension out for two classes, C - 1 for C.
        tolerance: how much better than the most frequent class a classifier may be for the loop to end.
        holdout: the share of every class that classifiers are judged on and not fitted to; 0 judges on what they were fitted to.
        ridge: weight of the classifiers' penalty.
        affine: whether the mean stays; the published map is linear.
        seed: of the split.

    Attributes:
        accuracies: of every classifier on held-out rows; the last one's is that after the erasure, where the loop ended by itself.
        majority: the accuracy of the most frequent class.

    Raises:
        EffaceError: no iteration, or a share outside [0, 1).
    """

    def __init__(
        self, iterations: int = 20, *, tolerance: float = 0.01, holdout: float = 0.2, ridge: float = 1e-4, affine: bool = False,
        seed: int = 0,
    ) -> None:  # fmt: skip
        if iterations < 1:
            raise EffaceError(f"INLP with {iterations} iterations erases nothing: give at least 1")
        if not 0 <= holdout < 1:
            raise EffaceError(f"holdout is a share in [0, 1), not {holdout}")
        self.iterations, self.tolerance, self.holdout, self.ridge = iterations, tolerance, holdout, ridge
        self.affine, self.seed = affine, seed
        self.accuracies: list[float] = []
        self.majority = 0.0

    def fit(self, X: Array, z: Array) -> Self:
        """Learns from vectors ``(N, D)`` and class labels ``(N,)``; an `EffaceError` where these do not fit each other."""
        x = vectors(X)
        y, classes = labels(z, len(x), x.device)
        center = x.mean(0) if self.affine else torch.zeros_like(x[0])
        kept, held = split(y, self.holdout, torch.Generator().manual_seed(self.seed))
        held = held if len(held) else kept
        self.majority, self.accuracies = majority(y[held]), []
        basis, left = x.new_zeros(0, x.shape[1]), x - center
        for _ in range(self.iterations):
            probe = Probe.fit(left[kept], y[kept], len(classes), self.ridge)
            self.accuracies.append(probe.accuracy(left[held], y[held]))
            if self.accuracies[-1] <= self.majority + self.tolerance or len(basis) == x.shape[1]:
                break
            basis = extend_basis(basis, probe.directions())
            left = (x - center) - ((x - center) @ basis.T) @ basis
        self.left, self.right, self.center = basis.T, basis, center
        return self


def extend_basis(basis: Tensor, more: Tensor) -> Tensor:
    """Orthonormal rows ``(k, D)`` with those of ``(r, D)`` that they do not span; twice, since once leaves rounding behind."""
    for _ in range(2):
        more = more - (more @ basis.T) @ basis
    _, values, rows = torch.linalg.svd(more, full_matrices=False)
    return torch.cat([basis, rows[values > 1e-8]])
