"""Images in a few blocks, and the block jackknife: intervals for statistics of whole sets, such as FID and KID. Itself no metric.

All images of a prompt go to one block, so that leaving a block out leaves whole prompts out.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from statistics import NormalDist

import torch
from torch import Tensor

BLOCKS = 16


def block_ids(n: int, prompts: Sequence[str] | None, start: int, blocks: int = BLOCKS) -> Tensor:
    """The block, 0 to ``blocks - 1``, of each of n images: by a checksum of the prompt, or in turn from `start` where none is given.

    Raises:
        ValueError: another number of prompts than of images.
    """
    if prompts is None:
        return (torch.arange(n) + start) % blocks
    if len(prompts) != n:
        raise ValueError(f"{len(prompts)} prompts for {n} images")
    return torch.tensor([zlib.crc32(prompt.encode()) % blocks for prompt in prompts], dtype=torch.long)


def check_block_ids(features: Tensor, width: int | None) -> Tensor:
    """Features as they are, on the processor, without gradient.

    Raises:
        ValueError: not ``(N, d)``, of another width than before, or not finite.
    """
    if features.ndim != 2 or (width is not None and features.shape[1] != width):
        raise ValueError(f"features must be (N, {width or 'd'}), not {tuple(features.shape)}")
    if not torch.isfinite(features).all():
        raise ValueError("features are not finite: the images are broken")
    return features.detach().cpu()


def jackknife(value: float, without: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """The interval ``value -/+ t s`` with ``s^2 = (B - 1) / B sum_b (without_b - mean(without))^2`` (delete-a-group jackknife).

    It speaks of the sampling error of the set's statistic, and does not take away a bias that comes of the set's size.

    Args:
        value: the statistic of the whole set.
        without: the statistic of the set without one of its B blocks, for each block.
        level: the interval's confidence; t has B - 1 degrees of freedom.

    Returns:
        The bounds; None with fewer than two blocks.
    """
    B = len(without)
    if B < 2:
        return None
    mean = math.fsum(without) / B
    s = math.sqrt((B - 1) / B * math.fsum((each - mean) ** 2 for each in without))
    half = t_quantile((1 + level) / 2, B - 1) * s
    return value - half, value + half


def t_quantile(p: float, freedom: int) -> float:
    """A quantile of Student's t: exact for 1 and 2 degrees of freedom, else by its expansion about the normal's (A. & S. 26.7.5)."""
    if freedom == 1:
        return math.tan(math.pi * (p - 0.5))
    if freedom == 2:
        return (2 * p - 1) * math.sqrt(2 / (4 * p * (1 - p)))
    z = NormalDist().inv_cdf(p)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / freedom**k for k, term in enumerate(terms))
