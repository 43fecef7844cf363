"""Greedy choice of words that together explain a set of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MIN_IMAGES = 2
"""Images that a word must explain better than the name: a single one may be an accident of the sampler."""


@dataclass(frozen=True)
class DomainWord:
    """A domain word and its scores.

    Attributes:
        word: the word.
        gain: mean gain beyond the name and the words chosen before it.
        image_fraction: fraction of images that the word explains better than the name.
    """

    word: str
    gain: float
    image_fraction: float


def repeated_greedy_cover(words: Sequence[str], gains: Tensor, count: int) -> list[DomainWord]:
    """Repeats `greedy_cover` on the remaining words until ``count`` words are chosen or none has a gain."""
    chosen, remaining = list[DomainWord](), list(range(len(words)))
    while remaining and len(chosen) < count:
        cover = greedy_cover([words[i] for i in remaining], gains[remaining], count - len(chosen))
        if not cover:
            break
        chosen += cover
        remaining = [i for i in remaining if all(words[i] != domain_word.word for domain_word in chosen)]
    return chosen


def greedy_cover(words: Sequence[str], gains: Tensor, count: int) -> list[DomainWord]:
    """Chooses up to ``count`` words that together explain the images best.

    Args:
        words: W words.
        gains: gain of each word on each image, ``(W, N)``; words with a gain on fewer than `MIN_IMAGES` images are
            never chosen.
        count: largest number of words.
    """
    chosen = list[DomainWord]()
    explained = torch.zeros_like(gains[0])
    eligible = (gains > 0).sum(1) >= MIN_IMAGES
    for _ in range(min(count, len(words))):
        further_gain = (gains - explained).clamp(min=0).mean(1) * eligible
        best = int(further_gain.argmax())
        if further_gain[best] <= 0:
            break
        chosen.append(DomainWord(words[best], float(further_gain[best]), float((gains[best] > 0).float().mean())))
        explained = torch.maximum(explained, gains[best])
    return chosen
