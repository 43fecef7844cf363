"""INLP: iterative nullspace projection (Ravfogel et al., "Null It Out", ACL 2020, arXiv 2004.07667).

    repeat:  w_i <- a linear classifier of z on P x;   P <- I - projection on span(w_1 .. w_i)

until a classifier is no better than the most frequent class on held-out rows, or n times. The published P, the
intersection of the null spaces of all classifiers, is computed from an orthonormal basis of their rows instead of from
a sum of projections.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from efface.core.errors import EffaceError

from .array_validation import Array, to_class_indices, to_vectors
from .base import LinearEraser
from .probe import Probe, majority_share, stratified_split


class InlpEraser(LinearEraser):
    """Erases classes with one linear classifier after another.

    Args:
        max_classifiers: largest number of classifiers; each removes a dimension for two classes, C - 1 for C classes.
        tolerance: the loop ends once a classifier's accuracy exceeds the most frequent class's share by at most this.
        holdout_fraction: share of every class to evaluate the classifiers on; 0 evaluates on the training rows.
        ridge: weight of the classifiers' l2 penalty.
        affine: whether the mean is preserved; the published map is linear.
        seed: seed of the split.

    Attributes:
        accuracies: accuracy of every classifier on held-out rows; the last is that after the erasure if the loop ended
            by its tolerance.
        majority: share of the most frequent class.

    Raises:
        EffaceError: no classifier, or a holdout fraction outside [0, 1).
    """

    def __init__(
        self,
        max_classifiers: int = 20,
        *,
        tolerance: float = 0.01,
        holdout_fraction: float = 0.2,
        ridge: float = 1e-4,
        affine: bool = False,
        seed: int = 0,
    ) -> None:
        if max_classifiers < 1:
            raise EffaceError(f"INLP with {max_classifiers} classifiers erases nothing: give at least 1")
        if not 0 <= holdout_fraction < 1:
            raise EffaceError(f"holdout_fraction must be in [0, 1), not {holdout_fraction}")
        self.max_classifiers = max_classifiers
        self.tolerance = tolerance
        self.holdout_fraction = holdout_fraction
        self.ridge = ridge
        self.affine = affine
        self.seed = seed
        self.accuracies: list[float] = []
        self.majority = 0.0

    def fit(self, X: Array, z: Array) -> Self:
        """Fits the map to vectors ``(N, D)`` and class labels ``(N,)``; raises `EffaceError` for invalid input."""
        x = to_vectors(X)
        y, classes = to_class_indices(z, len(x), x.device)
        center = x.mean(0) if self.affine else torch.zeros_like(x[0])
        train, test = stratified_split(y, self.holdout_fraction, torch.Generator().manual_seed(self.seed))
        test = test if len(test) else train
        self.majority, self.accuracies = majority_share(y[test]), []
        basis, erased = x.new_zeros(0, x.shape[1]), x - center
        for _ in range(self.max_classifiers):
            probe = Probe.fit(erased[train], y[train], len(classes), self.ridge)
            self.accuracies.append(probe.accuracy(erased[test], y[test]))
            if self.accuracies[-1] <= self.majority + self.tolerance or len(basis) == x.shape[1]:
                break
            basis = extend_basis(basis, probe.directions())
            erased = (x - center) - ((x - center) @ basis.T) @ basis
        self.left, self.right, self.center = basis.T, basis, center
        return self


def extend_basis(basis: Tensor, rows: Tensor) -> Tensor:
    """Adds the directions of rows ``(r, D)`` that orthonormal rows ``(k, D)`` do not span.

    The projection is repeated, since the first leaves a rounding error.
    """
    for _ in range(2):
        rows = rows - (rows @ basis.T) @ basis
    _, values, directions = torch.linalg.svd(rows, full_matrices=False)
    return torch.cat([basis, directions[values > 1e-8]])
