"""Running means and covariances of vectors and labels in float64 (Chan, Golub and LeVeque's update of Welford's)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Moments:
    """Running sums over N rows; no row is stored.

    Attributes:
        n: N.
        mean_x: ``(D,)``.
        mean_z: ``(K,)``.
        scatter: sum of (x - mean_x)(x - mean_x)^T, ``(D, D)``.
        cross: sum of (x - mean_x)(z - mean_z)^T, ``(D, K)``.
        square: sum of (z - mean_z)^2, ``(K,)``.
    """

    n: int
    mean_x: Tensor
    mean_z: Tensor
    scatter: Tensor
    cross: Tensor
    square: Tensor

    @classmethod
    def empty(cls, width: int, columns: int, device: torch.device) -> Moments:
        """Returns the moments of no rows."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        return cls(0, zeros(width), zeros(columns), zeros(width, width), zeros(width, columns), zeros(columns))

    def add(self, x: Tensor, z: Tensor) -> None:
        """Adds rows x ``(B, D)`` with z ``(B, K)``."""
        mean_x, mean_z = x.mean(0), z.mean(0)
        dx, dz = mean_x - self.mean_x, mean_z - self.mean_z
        x, z = x - mean_x, z - mean_z
        total = self.n + len(x)
        weight = self.n * len(x) / total
        self.scatter += x.T @ x + weight * torch.outer(dx, dx)
        self.cross += x.T @ z + weight * torch.outer(dx, dz)
        self.square += z.square().sum(0) + weight * dz.square()
        self.mean_x += dx * (len(x) / total)
        self.mean_z += dz * (len(x) / total)
        self.n = total

    @property
    def covariance(self) -> Tensor:
        """cov(x), ``(D, D)``."""
        return self.scatter / self.n

    @property
    def scaled_cross_covariance(self) -> Tensor:
        """cov(x, z) with every column of z scaled to variance 1, ``(D, K)``, so that rare classes count as much."""
        return self.cross / (self.n * self.square.clamp(min=torch.finfo(torch.float64).tiny)).sqrt()


def shrink_covariance(covariance: Tensor, n: int, weight: float | None) -> Tensor:
    """Returns (1 - w) S + w tr(S)/D I.

    Args:
        covariance: S, ``(D, D)``.
        n: number of rows.
        weight: w; None takes the optimal linear shrinkage of Bodnar, Gupta and Parolya (2014, arXiv 1308.2608),
            w = tr(S)^2 / (n (|S|_F^2 - tr(S)^2 / D)), at most 1.
    """
    width, trace = len(covariance), covariance.trace()
    if weight is None:
        spread = (covariance.square().sum() - trace.square() / width) * n
        weight = 1.0 if spread <= 0 else float((trace.square() / spread).clamp(max=1.0))
    eye = torch.eye(width, dtype=covariance.dtype, device=covariance.device)
    return (1 - weight) * covariance + weight * trace / width * eye


def whitening_factors(covariance: Tensor, tolerance: float = 1e-10) -> tuple[Tensor, Tensor]:
    """Returns a whitening W ``(r, D)`` with W S W^T = I and its pseudo-inverse W^+ ``(D, r)``.

    They come from the Cholesky factor, or from the eigenvectors if S is singular. The states of a text encoder are
    always singular: a layer norm puts them all on one hyperplane.

    Args:
        covariance: S, ``(D, D)``.
        tolerance: eigenvalues below this share of the largest count as 0.
    """
    lower, info = torch.linalg.cholesky_ex(covariance)
    diagonal = lower.diagonal()
    if not int(info) and float(diagonal.min() / diagonal.max()) ** 2 > tolerance:
        eye = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
        return torch.linalg.solve_triangular(lower, eye, upper=False), lower
    values, directions = torch.linalg.eigh(covariance)
    nonzero = values > tolerance * values[-1].clamp(min=0)
    root, directions = values[nonzero].sqrt(), directions[:, nonzero]
    return (directions / root).T, directions * root
