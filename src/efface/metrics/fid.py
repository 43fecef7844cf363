"""The Frechet distance of two sets of images by the features of a network (FID), streaming, in double precision.

    FID = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))             m, S: mean and covariance of the features

(Heusel et al. 2017, arXiv 1706.08500.) Any features will do; on other features than Inception's it is another scale, and the detector's
id says which. FID is biased upwards by an amount that falls with n, so that values of different n do not compare: each score states
both n, and below 2,000 images on either side there is no value to quote; use KID.

How it can be fooled: it compares clouds, not images with prompts. A model that ignores every prompt, or draws the reference set by
heart, has FID 0. Features of a network that never saw a kind of damage may not notice it. It stands beside rates, never alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from efface.core.score import DetectorId, Provenance, Score

from .jackknife import BLOCKS, block_ids, check_block_ids, jackknife

QUOTABLE = 2000
"""Images on either side from which an FID may be quoted."""


@dataclass(frozen=True)
class Moments:
    """Count, mean ``(d,)`` and sum of outer products of deviations ``(d, d)`` of features, in double precision."""

    n: int
    mean: Tensor
    scatter: Tensor

    @staticmethod
    def of(features: Tensor) -> Moments:
        """Those of features ``(N, d)``, N >= 1."""
        x = features.double()
        mean = x.mean(0)
        return Moments(len(x), mean, (x - mean).T @ (x - mean))

    def __add__(self, other: Moments) -> Moments:
        """Those of both sets together (Chan, Golub and LeVeque 1983), without the cancellation that sums of squares suffer."""
        n, gap = self.n + other.n, other.mean - self.mean
        scatter = self.scatter + other.scatter + torch.outer(gap, gap) * (self.n * other.n / n)
        return Moments(n, self.mean + gap * (other.n / n), scatter)

    @property
    def covariance(self) -> Tensor:
        """The unbiased covariance, ``(d, d)``; needs n >= 2."""
        return self.scatter / (self.n - 1)


class FeatureStats:
    """Moments of a stream of features, kept by block; the features themselves are not kept."""

    def __init__(self) -> None:
        self.n = 0
        self._blocks: list[Moments | None] = [None] * BLOCKS

    def update(self, features: Tensor, prompts: Sequence[str] | None = None) -> None:
        """Take in features ``(N, d)``; with their prompts, the interval leaves out whole prompts.

        Raises:
            ValueError: features of another width, or not finite.
        """
        width = next((len(block.mean) for block in self._blocks if block), None)
        rows = check_block_ids(features, width)
        ids = block_ids(len(rows), prompts, self.n)
        for block in ids.unique().tolist():
            new, old = Moments.of(rows[ids == block]), self._blocks[block]
            self._blocks[block] = old + new if old else new
        self.n += len(rows)

    def moments(self, without: int | None = None) -> Moments | None:
        """Those of everything, or of everything but one block; None where nothing is left."""
        total: Moments | None = None
        for i, block in enumerate(self._blocks):
            if block and i != without:
                total = total + block if total else block
        return total


def frechet_distance(mean1: Tensor, covariance1: Tensor, mean2: Tensor, covariance2: Tensor) -> float:
    """The squared Frechet (2-Wasserstein) distance of two Gaussians with means ``(d,)`` and covariances ``(d, d)``.

    The trace of ``(S1 S2)^(1/2)`` is taken from the symmetric ``S1^(1/2) S2 S1^(1/2)``, which has the same eigenvalues and, with the
    symmetric eigensolver, no complex ones; those below 0 by rounding count as 0, so that singular covariances are fine.
    """
    values, vectors = torch.linalg.eigh(covariance1.double())
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    inner = root @ covariance2.double() @ root
    trace = torch.linalg.eigvalsh((inner + inner.T) / 2).clamp(min=0).sqrt().sum()
    gap = (mean1.double() - mean2.double()).square().sum()
    return max(float(gap + covariance1.double().trace() + covariance2.double().trace() - 2 * trace), 0.0)


def fid(
    reference: FeatureStats, images: FeatureStats, group: str, *, detector: DetectorId, provenance: Provenance, least: int = QUOTABLE,
) -> Score:  # fmt: skip
    """The FID of images against a reference, with a jackknife interval over blocks of prompts.

    Args:
        reference: features of the reference, such as the base model's images.
        images: features of the images.
        group: which images.
        detector: whose features.
        provenance: how the images came about; name the reference in `extra`.
        least: with fewer images on either side the value is None, and `extra["refused"]` says why.
    """
    n = min(reference.n, images.n)
    how = replace(provenance, extra={**provenance.extra, "reference_n": reference.n})
    if n < max(least, 2):
        why = f"an FID is quoted from {max(least, 2)} images on either side on; there are {images.n} and {reference.n}: use KID"
        how = replace(how, extra={**how.extra, "refused": why})
        return Score("fid", group, None, None, None, images.n, detector, how)
    value = _distance(reference.moments(), images.moments())
    if value is None:
        raise ValueError("no FID of fewer than two images")
    distances = (_distance(reference.moments(block), images.moments(block)) for block in range(BLOCKS))
    bounds = jackknife(value, [each for each in distances if each is not None])
    low, high = (max(bounds[0], 0.0), bounds[1]) if bounds else (None, None)
    return Score("fid", group, value, low, high, images.n, detector, how)


def _distance(a: Moments | None, b: Moments | None) -> float | None:
    """The distance, or None where either side has no covariance."""
    if a is None or b is None or min(a.n, b.n) < 2:
        return None
    return frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
