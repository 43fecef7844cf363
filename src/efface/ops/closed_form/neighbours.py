"""Pairs whose states are moved together with neighbours (RealEra, arXiv 2410.09140)."""

from __future__ import annotations

import torch
from torch import Tensor

from .problem import Pairs


def with_neighbours(pairs: Pairs, neighbours: Tensor) -> Pairs:
    """Adds neighbours of every source state, mapped to the same anchor; each group shares the pair's weight equally.

    Args:
        pairs: m pairs.
        neighbours: ``(d, m * n)``, the n neighbours of the first state first.
    """
    count = neighbours.shape[1] // len(pairs)
    source = torch.cat([pairs.source, neighbours], 1)
    anchor = torch.cat([pairs.anchor, pairs.anchor.repeat_interleave(count, 1)], 1)
    weight = torch.cat([pairs.weight, pairs.weight.repeat_interleave(count)]) / (count + 1)
    texts = (*pairs.texts, *(text for text in pairs.texts for _ in range(count)))
    return Pairs(source, anchor, weight, texts)
