"""The Fantope of R-LACE: symmetric matrices between 0 and I with trace k, the convex hull of the rank-k projections."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def fantope_threshold(values: Tensor, k: float, counts: Tensor | None = None) -> float:
    """Returns tau with sum_i n_i clip(l_i - tau, 0, 1) = k, exactly.

    The sum decreases in tau and is linear between the breakpoints l_i - 1 and l_i. The first sorted breakpoint with a
    sum of at most k ends the linear piece that contains tau.

    Args:
        values: eigenvalues l, ``(m,)``.
        k: the trace, between 0 and sum n.
        counts: multiplicities n, ``(m,)``; ones by default.
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
    """P = U diag(l) U^T + rest (I - U U^T), with few directions, so that a step needs no D x D eigendecomposition.

    Attributes:
        directions: U ``(D, m)``, orthonormal.
        values: l ``(m,)``.
        rest: the eigenvalue of every other direction.
    """

    directions: Tensor
    values: Tensor
    rest: float = 0.0

    @classmethod
    def nearest(cls, matrix: Tensor, k: int) -> FantopePoint:
        """Projects a symmetric matrix ``(D, D)`` on the Fantope of trace k."""
        values, directions = torch.linalg.eigh(matrix)
        return cls(directions, (values - fantope_threshold(values, k)).clamp(0, 1))

    def times(self, x: Tensor) -> Tensor:
        """Returns P x for columns x ``(D, n)``."""
        coefficients: Tensor = self.directions.T @ x
        return self.rest * x + self.directions @ ((self.values - self.rest)[:, None] * coefficients)

    def step(self, left: Tensor, right: Tensor, k: int) -> FantopePoint:
        """Projects P + (left right^T + right left^T) / 2 on the Fantope, within the directions that change.

        Args:
            left: ``(D, c)``.
            right: ``(D, c)``.
            k: trace of the Fantope.
        """
        basis, _ = torch.linalg.qr(torch.cat([self.directions, left, right], 1))
        inner = basis.T @ self.times(basis)
        change = (basis.T @ left) @ (basis.T @ right).T
        inner = inner + (change + change.T) / 2
        values, vectors = torch.linalg.eigh((inner + inner.T) / 2)
        num_others = len(basis) - basis.shape[1]
        all_values = torch.cat([values, values.new_full((1,), self.rest)])
        counts = torch.cat([torch.ones_like(values), values.new_full((1,), float(num_others))])
        tau = fantope_threshold(all_values, k, counts)
        values = (values - tau).clamp(0, 1)
        rest = min(max(self.rest - tau, 0.0), 1.0) if num_others else 0.0
        differs = (values - rest).abs() > 1e-12 if num_others else torch.ones_like(values, dtype=torch.bool)
        return FantopePoint((basis @ vectors)[:, differs], values[differs], rest)

    def top_directions(self, k: int) -> Tensor:
        """Returns the k directions of the largest eigenvalues, ``(D, k)``, or fewer if the rest are all equal."""
        return self.directions[:, self.values.argsort(descending=True, stable=True)[:k]]
