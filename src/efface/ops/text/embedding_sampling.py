"""Sampling of text encoder states at a given cosine from a state (for RealEra, arXiv 2410.09140; the sampler is ours).

For a state e, a cosine c and g ~ N(0, I) with its component g_across orthogonal to e,

    e' = c e + sqrt(1 - c^2) |e| g_across / |g_across|

has the norm of e, exactly the cosine c to it and exactly the distance ``|e| sqrt(2 - 2 c)``, so that no sample is
rejected. A bound on the distance is a bound on the cosine.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from efface.core.errors import EffaceError


def sample_around(
    centers: Tensor,
    num_samples: int,
    cosines: tuple[float, float],
    generator: torch.Generator,
    *,
    max_distance: float = 0.0,
    basis: Tensor | None = None,
) -> Tensor:
    """Samples states with the norm of a center e and a cosine c to e that is uniform over a range.

    Args:
        centers: the centers e as columns, ``(d, m)``.
        num_samples: number of states around each center.
        cosines: range of the cosine c.
        generator: on the CPU.
        max_distance: largest ``|e' - e| / |e|``; 0 for no bound.
        basis: directions in which the states may differ from e, orthonormal columns ``(d, q)``; None for all.

    Returns:
        ``(d, m * num_samples)``, the states of the first center first.

    Raises:
        EffaceError: the bounds leave no cosine, or the basis leaves no direction orthogonal to a center.
    """
    low, high = _cosine_range(cosines, max_distance)
    dim, num_centers = centers.shape
    count = num_centers * num_samples
    e = centers.T.repeat_interleave(num_samples, dim=0).double()
    cosine = low + (high - low) * torch.rand(count, 1, generator=generator, dtype=torch.float64)
    g = torch.randn(count, dim if basis is None else basis.shape[1], generator=generator, dtype=torch.float64)
    g = g if basis is None else g @ basis.T.double()
    unit = normalize(e, dim=1)
    sine = (1 - cosine.square()).clamp(min=0).sqrt()
    return (e.norm(dim=1, keepdim=True) * (cosine * unit + sine * _orthogonal_directions(g, unit))).T


def local_basis(states: Tensor, centers: Tensor, num_nearest: int) -> Tensor:
    """Returns an orthonormal basis of the directions from the mean center to the states nearest to it by cosine.

    Args:
        states: columns ``(d, n)``.
        centers: columns ``(d, m)``.
        num_nearest: number of nearest states.

    Returns:
        Columns ``(d, q)``, q at most ``num_nearest``.
    """
    center = centers.double().mean(1, keepdim=True)
    cosines = normalize(states.double(), dim=0).T @ normalize(center, dim=0)
    nearest = states.double()[:, cosines[:, 0].argsort(descending=True)[:num_nearest]]
    u, s, _ = torch.linalg.svd(nearest - center, full_matrices=False)
    return u[:, s > math.sqrt(torch.finfo(torch.float64).eps) * s[0]]


def _cosine_range(cosines: tuple[float, float], max_distance: float) -> tuple[float, float]:
    """Narrows a range of cosines to those within a relative distance."""
    low, high = cosines
    if max_distance:
        low = max(low, 1 - max_distance**2 / 2)
    if not -1 <= low <= high <= 1:
        raise EffaceError(f"no cosine between {low:.4g} and {high:.4g}: widen the range, or allow a larger distance")
    return low, high


def _orthogonal_directions(g: Tensor, unit: Tensor) -> Tensor:
    """Returns the unit vectors of the components of g orthogonal to unit vectors, row by row."""
    across = g - (g * unit).sum(1, keepdim=True) * unit
    if len(across) and float(across.norm(dim=1).min()) <= 1e-9 * float(g.norm(dim=1).max()):
        raise EffaceError(
            "no direction orthogonal to the concept is left for the neighbours: retain more prompts, or set "
            "anisotropic to false"
        )
    return normalize(across, dim=1)
