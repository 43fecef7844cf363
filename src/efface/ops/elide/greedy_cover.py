"""Greedy choice of words that together explain a set of images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MIN_IMAGES = 2
"""Images that a word must explain better than the name: a single one may be an accident of the sampler."""


def repeated_greedy_cover(words: Sequence[str], gains: Tensor, count: int) -> list[str]:
    """Repeats `greedy_cover` on the remaining words until ``count`` words are chosen or none has a gain.

    Args:
        words: W words.
        gains: gain of each word on each image, ``(W, N)``; words with a gain on fewer than `MIN_IMAGES` images are
            never chosen.
        count: largest number of words.
    """
    chosen, remaining = list[str](), list(range(len(words)))
    while remaining and len(chosen) < count:
        cover = greedy_cover([words[i] for i in remaining], gains[remaining], count - len(chosen))
        if not cover:
            break
        chosen += cover
        remaining = [i for i in remaining if words[i] not in chosen]
    return chosen


def greedy_cover(words: Sequence[str], gains: Tensor, count: int) -> list[str]:
    """Chooses up to ``count`` words that together explain the images best, each once."""
    chosen = list[str]()
    explained = torch.zeros_like(gains[0])
    eligible = (gains > 0).sum(1) >= MIN_IMAGES
    for _ in range(min(count, len(words))):
        further_gain = (gains - explained).clamp(min=0).mean(1) * eligible
        best = int(further_gain.argmax())
        if further_gain[best] <= 0:
            break
        chosen.append(words[best])
        explained = torch.maximum(explained, gains[best])
    return chosen
