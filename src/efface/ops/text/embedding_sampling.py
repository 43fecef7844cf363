"""States around a state, at a likeness that is asked for (for RealEra, arXiv 2410.09140; the sampler is ours)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from efface.core.errors import EffaceError


def sample_around(
    centres: Tensor, count: int, cosines: tuple[float, float], generator: torch.Generator, *,
    distance: float = 0.0, basis: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """States e' with the length of a centre e and cos(e, e') even over a range, in directions that are even beside that.

    With g ~ N(0, I) and its part across e, ``e' = c e + sqrt(1 - c^2) |e| g_across / |g_across|``: the cosine is c and the distance
    ``|e| sqrt(2 - 2 c)``, both exactly, so that none is drawn in vain. A bound of the distance is one of the cosine.

    Args:
        centres: e as columns, ``(d, m)``.
        count: states around each.
        cosines: the range of c.
        generator: on the CPU.
        distance: the largest ``|e' - e| / |e|``; 0 for no bound.
        basis: directions in which the states lie apart from e, orthonormal columns ``(d, q)``; None for all.

    Returns:
        ``(d, m * count)``, those of the first centre first.

    Raises:
        EffaceError: no cosine is left, or no direction across the centre.
    """
    low, high = cosines
    if distance:
        low = max(low, 1 - distance**2 / 2)
    if not -1 <= low <= high <= 1:
        raise EffaceError(f"no cosine between {low:.4g} and {high:.4g}: widen the range, or allow a larger distance")
    d, m = centres.shape
    e = centres.T.repeat_interleave(count, dim=0).double()
    c = low + (high - low) * torch.rand(m * count, 1, generator=generator, dtype=torch.float64)
    width = d if basis is None else basis.shape[1]
    g = torch.randn(m * count, width, generator=generator, dtype=torch.float64)
    g = g if basis is None else g @ basis.T.double()
    length, unit = e.norm(dim=1, keepdim=True), normalize(e, dim=1)
    across = g - (g * unit).sum(1, keepdim=True) * unit
    if len(across) and float(across.norm(dim=1).min()) <= 1e-9 * float(g.norm(dim=1).max()):
        raise EffaceError(
            "the neighbours leave no direction across the concept: retain more prompts, or set anisotropic to false"
        )
    return (length * (c * unit + (1 - c.square()).clamp(min=0).sqrt() * normalize(across, dim=1))).T


def local_basis(states: Tensor, centres: Tensor, nearest: int) -> Tensor:
    """Orthonormal basis ``(d, q)`` of the directions from the mean centre to the states nearest to it by cosine, q at most their number.

    Args:
        states: columns ``(d, n)``.
        centres: columns ``(d, m)``.
        nearest: how many of the states.
    """
    centre = centres.double().mean(1, keepdim=True)
    likeness = normalize(states.double(), dim=0).T @ normalize(centre, dim=0)
    chosen = states.double()[:, likeness[:, 0].argsort(descending=True)[:nearest]]
    u, s, _ = torch.linalg.svd(chosen - centre, full_matrices=False)
    return u[:, s > math.sqrt(torch.finfo(torch.float64).eps) * s[0]]
