"""The kernel distance of two sets of images by the features of a network (KID): an unbiased squared MMD.

    k(x, y) = (x.y / d + 1)^3
    KID = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

(Binkowski et al. 2018, arXiv 1801.01401; Gretton et al. 2012.) Unbiased at every n, so that values of different n compare and it may be
negative where the sets are alike; below 2,000 images it stands in for FID. Where the i-th images of both sets share prompt and
seed, they resemble each other for that reason alone: say `paired`, and they are not compared (the h-statistic, also unbiased).
The value uses all pairs; the mean over random subsets, which other tools state, is beside it in the provenance, on the same scale
(many tools print 1,000 times it).

How it can be fooled: as FID, it compares clouds, not images with prompts. It stands beside rates, never alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from efface.core.score import DetectorId, Provenance, Score

from .jackknife import BLOCKS, block_ids, check_block_ids, jackknife

CHUNK = 1024  # rows of the kernel matrix at a time


class Features:
    """A stream of features, kept in single precision with their blocks; the images are not."""

    def __init__(self) -> None:
        self.n = 0
        self._parts: list[Tensor] = []
        self._ids: list[Tensor] = []

    def update(self, features: Tensor, prompts: Sequence[str] | None = None) -> None:
        """Take in features ``(N, d)``; with their prompts, the interval leaves out whole prompts.

        Raises:
            ValueError: features of another width, or not finite.
        """
        rows = check_block_ids(features, self._parts[0].shape[1] if self._parts else None).float()
        self._ids.append(block_ids(len(rows), prompts, self.n))
        self._parts.append(rows)
        self.n += len(rows)

    @property
    def values(self) -> Tensor:
        """All features, ``(n, d)``, in the order in which they came."""
        return torch.cat(self._parts) if self._parts else torch.zeros(0, 0)

    @property
    def blocks(self) -> Tensor:
        """The block of each, ``(n,)``."""
        return torch.cat(self._ids) if self._ids else torch.zeros(0, dtype=torch.long)


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """``(x.y / d + 1)^3`` of features ``(N, d)`` and ``(M, d)``: ``(N, M)``, in double precision."""
    return (x.double() @ y.double().T / x.shape[1] + 1) ** 3


def squared_mmd(x: Tensor, y: Tensor, *, paired: bool = False) -> float:
    """The unbiased squared MMD of features ``(N, d)`` and ``(M, d)``, N, M >= 2; ``paired``: i-th with i-th is not compared.

    Raises:
        ValueError: fewer than two of either, or pairs of sets that differ in number.
    """
    x_ids, y_ids = (torch.zeros(len(each), dtype=torch.long) for each in (x, y))
    value = _Sums(x, x_ids, y, y_ids, paired, blocks=1).mmd(torch.ones(1, dtype=torch.double))
    assert value is not None  # two or more of either, or there are no sums
    return value


class _Sums:
    """The kernel summed over every pair of blocks, from which the statistic without any block follows at no cost."""

    def __init__(self, x: Tensor, x_ids: Tensor, y: Tensor, y_ids: Tensor, paired: bool, blocks: int = BLOCKS) -> None:
        if min(len(x), len(y)) < 2 or (paired and (len(x) != len(y) or not torch.equal(x_ids, y_ids))):
            raise ValueError(f"no KID of {len(x)} and {len(y)} {'paired ' if paired else ''}images")
        at_x, at_y = (torch.nn.functional.one_hot(ids, blocks).double() for ids in (x_ids, y_ids))
        self.sizes_x, self.sizes_y, self.paired = at_x.sum(0), at_y.sum(0), paired
        self.xx = _block_sums(x, at_x, x, at_x) - _diagonal(x, x, at_x)
        self.yy = _block_sums(y, at_y, y, at_y) - _diagonal(y, y, at_y)
        self.xy = _block_sums(x, at_x, y, at_y) - (_diagonal(x, y, at_x) if paired else 0.0)

    def mmd(self, keep: Tensor) -> float | None:
        """The statistic of the blocks where `keep`, ``(blocks,)``, is 1; None where fewer than two images of a side are left."""
        n, m = float(keep @ self.sizes_x), float(keep @ self.sizes_y)
        if min(n, m) < 2:
            return None
        cross = n * (n - 1) if self.paired else n * m
        xx, yy, xy = (float(keep @ sums @ keep) for sums in (self.xx, self.yy, self.xy))
        return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / cross


def _block_sums(x: Tensor, at_x: Tensor, y: Tensor, at_y: Tensor) -> Tensor:
    """``(blocks, blocks)``: the kernel summed over all pairs, a chunk of rows at a time."""
    parts = zip(x.split(CHUNK), at_x.split(CHUNK), strict=True)
    return torch.stack([at.T @ (polynomial_kernel(rows, y) @ at_y) for rows, at in parts]).sum(0)


def _diagonal(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    """The part of the sums that is the i-th with the i-th."""
    own = ((x.double() * y.double()).sum(1) / x.shape[1] + 1) ** 3
    return torch.diag(own @ at)


def kid_of_subsets(
    x: Tensor, y: Tensor, *, rng: np.random.Generator, subsets: int = 100, size: int = 1000
) -> tuple[float, float]:
    """Mean and standard deviation over random subsets of `size` of each set, as other tools state KID.

    The subsets overlap: the deviation is that of one subset's KID, not the mean's error.

    Raises:
        ValueError: subsets larger than either set, or smaller than two.
    """
    if not 2 <= size <= min(len(x), len(y)):
        raise ValueError(f"no subsets of {size} of {len(x)} and {len(y)} images")
    picks = [[torch.from_numpy(rng.choice(len(each), size, replace=False)) for each in (x, y)] for _ in range(subsets)]
    values = np.array([squared_mmd(x[a], y[b]) for a, b in picks])
    return float(values.mean()), float(values.std())


def kid(
    reference: Features, images: Features, group: str, *,
    rng: np.random.Generator, detector: DetectorId, provenance: Provenance, paired: bool = False, subsets: int = 100, size: int = 1000,
) -> Score:  # fmt: skip
    """The KID of images against a reference, with a jackknife interval over blocks of prompts; None with fewer than two of either.

    Args:
        reference: features of the reference, such as the base model's images.
        images: features of the images.
        group: which images.
        rng: draws the subsets.
        detector: whose features.
        provenance: how the images came about; name the reference in `extra`.
        paired: the i-th of both share prompt and seed.
        subsets: how many subsets to draw for the comparison with other tools; 0 for none.
        size: images in a subset; half of them where there are fewer than twice as many.
    """
    how = replace(provenance, extra={**provenance.extra, "reference_n": reference.n, "paired": paired})
    if min(reference.n, images.n) < 2:
        return Score("kid", group, None, None, None, images.n, detector, how)
    x, y = reference.values, images.values
    sums, keep = _Sums(x, reference.blocks, y, images.blocks, paired), torch.ones(BLOCKS, dtype=torch.double)
    value = sums.mmd(keep)
    assert value is not None  # two or more of either
    used = [b for b in range(BLOCKS) if sums.sizes_x[b] + sums.sizes_y[b] > 0]
    without = [sums.mmd(keep.index_fill(0, torch.tensor([b]), 0.0)) for b in used]
    low, high = jackknife(value, [each for each in without if each is not None]) or (None, None)
    size = min(size, reference.n // 2, images.n // 2)
    if subsets and size >= 2 and not paired:
        mean, deviation = kid_of_subsets(x, y, rng=rng, subsets=subsets, size=size)
        stated = {"subset_mean": mean, "subset_std": deviation, "subsets": subsets, "subset_size": size}
        how = replace(how, extra={**how.extra, **stated})
    return Score("kid", group, value, low, high, images.n, detector, how)
