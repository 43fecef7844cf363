"""Kernel distance of two sets of images by the features of a network (KID): an unbiased squared MMD.

    k(x, y) = (x.y / d + 1)^3
    KID = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

(Binkowski et al. 2018, arXiv 1801.01401; Gretton et al. 2012.) KID is unbiased at every n, so values of different n
compare, and it may be negative where the sets are alike; use it in place of FID below 2,000 images. Where the i-th
images of both sets share prompt and seed, they resemble each other for that reason alone: with `paired` they are not
compared (the h-statistic, also unbiased). The value uses all pairs. The provenance also holds the mean over random
subsets, which other tools report, on the same scale (many tools print 1,000 times that value).

How it can be fooled: like FID, KID compares distributions, not images with prompts. Report it beside rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from efface.core.score import DetectorId, Provenance, Score

from .jackknife import NUM_BLOCKS, block_ids, jackknife, validate_features

CHUNK = 1024
"""Rows of the kernel matrix computed at once."""


class FeatureStream:
    """A stream of features with their blocks, stored in single precision; images are not stored."""

    def __init__(self) -> None:
        self.n = 0
        self._parts: list[Tensor] = []
        self._ids: list[Tensor] = []

    def update(self, features: Tensor, prompts: Sequence[str] | None = None) -> None:
        """Add features ``(N, d)``; given their prompts, the jackknife leaves out whole prompts.

        Raises:
            ValueError: features of another width, or not finite.
        """
        rows = validate_features(features, self._parts[0].shape[1] if self._parts else None).float()
        self._ids.append(block_ids(len(rows), prompts, self.n))
        self._parts.append(rows)
        self.n += len(rows)

    @property
    def values(self) -> Tensor:
        """All features, ``(n, d)``, in the order of their images."""
        return torch.cat(self._parts) if self._parts else torch.zeros(0, 0)

    @property
    def blocks(self) -> Tensor:
        """The block of each image, ``(n,)``."""
        return torch.cat(self._ids) if self._ids else torch.zeros(0, dtype=torch.long)


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """Kernel ``(x.y / d + 1)^3`` of features ``(N, d)`` and ``(M, d)``: ``(N, M)``, in double precision."""
    return (x.double() @ y.double().T / x.shape[1] + 1) ** 3


def squared_mmd(x: Tensor, y: Tensor, *, paired: bool = False) -> float:
    """Unbiased squared MMD of features ``(N, d)`` and ``(M, d)``, N, M >= 2.

    Args:
        x: features of the first set.
        y: features of the second set.
        paired: leave out the pairs of the i-th with the i-th image.

    Raises:
        ValueError: fewer than two images in a set, or paired sets of different sizes.
    """
    x_ids, y_ids = (torch.zeros(len(each), dtype=torch.long) for each in (x, y))
    return _BlockKernelSums(x, x_ids, y, y_ids, paired, blocks=1).value


class _BlockKernelSums:
    """The kernel summed over every pair of blocks, which gives the statistic without any one block at no cost."""

    def __init__(
        self, x: Tensor, x_ids: Tensor, y: Tensor, y_ids: Tensor, paired: bool, blocks: int = NUM_BLOCKS
    ) -> None:
        if min(len(x), len(y)) < 2 or (paired and (len(x) != len(y) or not torch.equal(x_ids, y_ids))):
            raise ValueError(f"no KID of {len(x)} and {len(y)} {'paired ' if paired else ''}images")
        at_x = torch.nn.functional.one_hot(x_ids, blocks).double()
        at_y = torch.nn.functional.one_hot(y_ids, blocks).double()
        self.sizes_x = at_x.sum(0)
        self.sizes_y = at_y.sum(0)
        self.paired = paired
        self.xx = _block_sums(x, at_x, x, at_x) - _diagonal(x, x, at_x)
        self.yy = _block_sums(y, at_y, y, at_y) - _diagonal(y, y, at_y)
        self.xy = _block_sums(x, at_x, y, at_y) - (_diagonal(x, y, at_x) if paired else 0.0)

    def mmd(self, keep: Tensor) -> float | None:
        """The statistic of the blocks where `keep`, ``(blocks,)``, is 1; None with under two images in a set."""
        n, m = float(keep @ self.sizes_x), float(keep @ self.sizes_y)
        if min(n, m) < 2:
            return None
        cross_pairs = n * (n - 1) if self.paired else n * m
        xx, yy, xy = (float(keep @ sums @ keep) for sums in (self.xx, self.yy, self.xy))
        return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / cross_pairs

    @property
    def value(self) -> float:
        """The statistic of all blocks."""
        value = self.mmd(self._all_blocks())
        assert value is not None  # the constructor raises for fewer than two images in a set
        return value

    def interval(self) -> tuple[float | None, float | None]:
        """The jackknife's bounds over the blocks that hold images; None where there are none."""
        all_blocks = self._all_blocks()
        used = [b for b in range(len(all_blocks)) if self.sizes_x[b] + self.sizes_y[b] > 0]
        without = [self.mmd(all_blocks.index_fill(0, torch.tensor([b]), 0.0)) for b in used]
        return jackknife(self.value, [value for value in without if value is not None]) or (None, None)

    def _all_blocks(self) -> Tensor:
        return torch.ones(len(self.sizes_x), dtype=torch.double)


def _block_sums(x: Tensor, at_x: Tensor, y: Tensor, at_y: Tensor) -> Tensor:
    """Kernel summed over all pairs of two blocks, ``(blocks, blocks)``, a chunk of rows at a time."""
    chunks = zip(x.split(CHUNK), at_x.split(CHUNK), strict=True)
    return torch.stack([at.T @ (polynomial_kernel(rows, y) @ at_y) for rows, at in chunks]).sum(0)


def _diagonal(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    """The part of the sums that compares the i-th with the i-th image, ``(blocks, blocks)``."""
    kernel = ((x.double() * y.double()).sum(1) / x.shape[1] + 1) ** 3
    return torch.diag(kernel @ at)


def kid_of_subsets(
    x: Tensor, y: Tensor, *, rng: np.random.Generator, subsets: int = 100, size: int = 1000
) -> tuple[float, float]:
    """Mean and standard deviation of KID over random subsets of both sets, as other tools report it.

    The subsets overlap: the deviation is that of one subset's KID, not the mean's error.

    Args:
        x: features ``(N, d)`` of the first set.
        y: features ``(M, d)`` of the second set.
        rng: samples the subsets.
        subsets: number of subsets.
        size: images in a subset.

    Raises:
        ValueError: subsets larger than either set, or smaller than two images.
    """
    if not 2 <= size <= min(len(x), len(y)):
        raise ValueError(f"cannot sample subsets of {size} from {len(x)} and {len(y)} images")
    picks = [[torch.from_numpy(rng.choice(len(side), size, replace=False)) for side in (x, y)] for _ in range(subsets)]
    values = np.array([squared_mmd(x[a], y[b]) for a, b in picks])
    return float(values.mean()), float(values.std())


def kid(
    reference: FeatureStream,
    images: FeatureStream,
    group: str,
    *,
    rng: np.random.Generator,
    detector: DetectorId,
    provenance: Provenance,
    paired: bool = False,
    subsets: int = 100,
    size: int = 1000,
) -> Score:
    """KID of images against a reference, with a jackknife interval over blocks of prompts.

    The value is None with fewer than two images in either set.

    Args:
        reference: features of the reference, such as the base model's images.
        images: features of the images.
        group: the images' group.
        rng: samples the subsets.
        detector: the network that computed the features.
        provenance: how the images were generated; name the reference in `extra`.
        paired: whether the i-th images of both sets share prompt and seed.
        subsets: number of random subsets for the comparison with other tools; 0 for none.
        size: images in a subset, at most half of either set.
    """
    described = replace(provenance, extra={**provenance.extra, "reference_n": reference.n, "paired": paired})
    if min(reference.n, images.n) < 2:
        return Score("kid", group, None, None, None, images.n, detector, described)
    x, y = reference.values, images.values
    sums = _BlockKernelSums(x, reference.blocks, y, images.blocks, paired)
    low, high = sums.interval()
    size = min(size, reference.n // 2, images.n // 2)
    if subsets and size >= 2 and not paired:
        mean, deviation = kid_of_subsets(x, y, rng=rng, subsets=subsets, size=size)
        over_subsets = {"subset_mean": mean, "subset_std": deviation, "subsets": subsets, "subset_size": size}
        described = replace(described, extra={**described.extra, **over_subsets})
    return Score("kid", group, sums.value, low, high, images.n, detector, described)
