"""Symmetric matrices between 0 and I with trace k, the convex hull of the projections of rank k: the Fantope of R-LACE."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def threshold(values: Tensor, k: float, counts: Tensor | None = None) -> float:
    """Tau with sum_i n_i clip(l_i - tau, 0, 1) = k, exactly.

    The sum falls with tau and is linear between the breakpoints l_i - 1 and l_i: sorted, the first at which it is at most k ends the
    piece that tau lies on.

    Args:
        values: eigenvalues l, ``(m,)``.
        k: the trace, between 0 and sum n.
        counts: how often each occurs, n; once by default.
    """
    counts = torch.ones_like(values) if counts is None else counts
    points = torch.cat([values - 1, values]).sort().values
    sums = ((values - points[:, None]).clamp(0, 1) * counts).sum(1)
    after = int((sums <= k).nonzero()[0])
    if after == 0 or float(sums[after]) == k:
        return float(points[after])
    low, high = points[after - 1], points[after]
    return float(low + (sums[after - 1] - k) / (sums[after - 1] - sums[after]) * (high - low))


@dataclass
class FantopePoint:
    """P = U diag(l) U^T + rest (I - U U^T): as few directions as it takes, so that a step costs no eigendecomposition of all D.

    Attributes:
        directions: U ``(D, m)``, orthonormal; values: l ``(m,)``; rest: the eigenvalue of every other direction.
    """

    directions: Tensor
    values: Tensor
    rest: float = 0.0

    @classmethod
    def of(cls, matrix: Tensor, k: int) -> FantopePoint:
        """The point of the Fantope of trace k nearest to a symmetric matrix ``(D, D)``."""
        values, directions = torch.linalg.eigh(matrix)
        return cls(directions, (values - threshold(values, k)).clamp(0, 1))

    def times(self, x: Tensor) -> Tensor:
        """P x for columns x ``(D, n)``."""
        inside: Tensor = self.directions.T @ x
        return self.rest * x + self.directions @ ((self.values - self.rest)[:, None] * inside)

    def moved(self, left: Tensor, right: Tensor, k: int) -> FantopePoint:
        """The nearest point to P + (left right^T + right left^T) / 2, for factors ``(D, c)``, from the directions that change alone."""
        basis, _ = torch.linalg.qr(torch.cat([self.directions, left, right], 1))
        inner = basis.T @ self.times(basis)
        change = (basis.T @ left) @ (basis.T @ right).T
        inner = inner + (change + change.T) / 2
        values, vectors = torch.linalg.eigh((inner + inner.T) / 2)
        others = len(basis) - basis.shape[1]
        every = torch.cat([values, values.new_full((1,), self.rest)])
        counts = torch.cat([torch.ones_like(values), values.new_full((1,), float(others))])
        tau = threshold(every, k, counts)
        values, rest = (values - tau).clamp(0, 1), min(max(self.rest - tau, 0.0), 1.0) if others else 0.0
        told = (values - rest).abs() > 1e-12 if others else torch.ones_like(values, dtype=torch.bool)
        return FantopePoint((basis @ vectors)[:, told], values[told], rest)

    def top(self, k: int) -> Tensor:
        """The k directions of the largest eigenvalues, ``(D, k)``; fewer where the others are all alike."""
        return self.directions[:, self.values.argsort(descending=True, stable=True)[:k]]
