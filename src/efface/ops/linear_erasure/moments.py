"""Means and covariances of a stream of vectors and labels, in float64 (Chan, Golub and LeVeque's update of Welford's)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Moments:
    """Running sums over N rows; no row is kept.

    Attributes:
        n: N.
        mean_x, mean_z: ``(D,)``, ``(K,)``.
        scatter: sum of (x - mean_x)(x - mean_x)^T, ``(D, D)``; cross: of (x - mean_x)(z - mean_z)^T, ``(D, K)``; square: of (z - mean_z)^2.
    """

    n: int
    mean_x: Tensor
    mean_z: Tensor
    scatter: Tensor
    cross: Tensor
    square: Tensor

    @classmethod
    def empty(cls, width: int, columns: int, device: torch.device) -> Moments:
        """Those of no rows."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        return cls(0, zeros(width), zeros(columns), zeros(width, width), zeros(width, columns), zeros(columns))

    def add(self, x: Tensor, z: Tensor) -> None:
        """Takes rows x ``(B, D)`` with z ``(B, K)`` in."""
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
    def correlates(self) -> Tensor:
        """cov(x, z) with every column of z scaled to variance 1, ``(D, K)``: a class of three in 40,000 weighs as much as any."""
        return self.cross / (self.n * self.square.clamp(min=torch.finfo(torch.float64).tiny)).sqrt()


def shrunk(covariance: Tensor, n: int, weight: float | None) -> Tensor:
    """(1 - w) S + w tr(S)/D I; without a weight, that of Bodnar, Gupta and Parolya's optimal linear shrinkage (2014, arXiv 1308.2608).

    w = tr(S)^2 / (n (|S|_F^2 - tr(S)^2 / D)), at most 1.
    """
    width, trace = len(covariance), covariance.trace()
    if weight is None:
        spread = (covariance.square().sum() - trace.square() / width) * n
        weight = 1.0 if spread <= 0 else float((trace.square() / spread).clamp(max=1.0))
    eye = torch.eye(width, dtype=covariance.dtype, device=covariance.device)
    return (1 - weight) * covariance + weight * trace / width * eye


def factors(covariance: Tensor, tol: float = 1e-10) -> tuple[Tensor, Tensor]:
    """A whitening W ``(r, D)`` with W S W^T = I, and the way back W^+ ``(D, r)``: by Cholesky, or where S is singular by its eigenvectors.

    The states of a text encoder are always singular: a layer norm puts them all on one hyperplane.
    """
    lower, info = torch.linalg.cholesky_ex(covariance)
    diagonal = lower.diagonal()
    if not int(info) and float(diagonal.min() / diagonal.max()) ** 2 > tol:
        eye = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
        return torch.linalg.solve_triangular(lower, eye, upper=False), lower
    values, directions = torch.linalg.eigh(covariance)
    kept = values > tol * values[-1].clamp(min=0)
    root, directions = values[kept].sqrt(), directions[:, kept]
    return (directions / root).T, directions * root
