"""Projection onto the probability simplex."""

from __future__ import annotations

import torch
from torch import Tensor


def project_to_simplex(rows: Tensor) -> Tensor:
    """Returns the nearest point of the simplex for each row ``(..., V)``, exactly, by sorting (Duchi et al. 2008)."""
    ordered = rows.sort(dim=-1, descending=True).values
    ranks = torch.arange(1, rows.shape[-1] + 1, device=rows.device, dtype=rows.dtype)
    excess = ordered.cumsum(-1) - 1
    count = (ordered - excess / ranks > 0).sum(-1, keepdim=True)
    shift = excess.gather(-1, count - 1) / count
    return (rows - shift).clamp(min=0)
