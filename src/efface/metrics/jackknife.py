"""Block jackknife: intervals for statistics of whole image sets, such as FID and KID.

All images of a prompt belong to one block, so leaving a block out leaves whole prompts out.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import torch
from scipy.stats import t as student_t
from torch import Tensor

NUM_BLOCKS = 16


def block_ids(n: int, prompts: Sequence[str] | None, start: int, blocks: int = NUM_BLOCKS) -> Tensor:
    """Assign each of n images a block, 0 to ``blocks - 1``.

    Args:
        n: number of images.
        prompts: their prompts, whose checksum gives the block; None assigns blocks in turn.
        start: number of images before these, which continues the turn.
        blocks: number of blocks.

    Raises:
        ValueError: the numbers of prompts and images differ.
    """
    if prompts is None:
        return (torch.arange(n) + start) % blocks
    if len(prompts) != n:
        raise ValueError(f"{len(prompts)} prompts for {n} images")
    return torch.tensor([zlib.crc32(prompt.encode()) % blocks for prompt in prompts], dtype=torch.long)


def validate_features(features: Tensor, width: int | None) -> Tensor:
    """Check features ``(N, d)`` and return them on the CPU without gradient.

    Raises:
        ValueError: not of shape ``(N, d)``, of another width than `width`, or not finite.
    """
    if features.ndim != 2 or (width is not None and features.shape[1] != width):
        raise ValueError(f"features must be (N, {width or 'd'}), not {tuple(features.shape)}")
    if not torch.isfinite(features).all():
        raise ValueError("features are not finite: the images are broken")
    return features.detach().cpu()


def jackknife(value: float, without: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Delete-a-group jackknife interval of a statistic of a whole set.

    The interval is ``value -/+ t s`` with ``s^2 = (B - 1) / B sum_b (without_b - mean(without))^2``. It covers the
    statistic's sampling error and does not remove a bias that depends on the set's size.

    Args:
        value: the statistic of the whole set.
        without: the statistic of the set without one of its B blocks, for each block.
        level: the interval's confidence in (0, 1); Student's t has B - 1 degrees of freedom.

    Returns:
        The bounds; None with fewer than two blocks.
    """
    B = len(without)
    if B < 2:
        return None
    mean = math.fsum(without) / B
    s = math.sqrt((B - 1) / B * math.fsum((each - mean) ** 2 for each in without))
    half_width = float(student_t.ppf((1 + level) / 2, B - 1)) * s
    return value - half_width, value + half_width
