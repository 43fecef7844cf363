"""Frechet distance of two sets of images by the features of a network (FID), streaming, in double precision.

    FID = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))             m, S: mean and covariance of the features

(Heusel et al. 2017, arXiv 1706.08500.) Any features work; on features other than Inception's the scale differs, and
the detector's id names the network. FID is biased upwards by an amount that falls with n, so values of different n do
not compare: each score states both n, and below 2,000 images on either side there is no value. Use KID instead.

How it can be fooled: FID compares distributions, not images with prompts. A model that ignores every prompt, or
memorised the reference set, has FID 0. Features of a network that never saw a kind of damage may not notice it.
Report it beside rates, never alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from efface.core.score import DetectorId, Provenance, Score

from .jackknife import NUM_BLOCKS, block_ids, jackknife, validate_features

MIN_IMAGES = 2000
"""Smallest number of images on either side for which an FID has a value."""


@dataclass(frozen=True)
class Moments:
    """Count, mean ``(d,)`` and sum of outer products of deviations ``(d, d)`` of features, in double precision."""

    n: int
    mean: Tensor
    scatter: Tensor

    @staticmethod
    def of(features: Tensor) -> Moments:
        """The moments of features ``(N, d)``, N >= 1."""
        x = features.double()
        mean = x.mean(0)
        return Moments(len(x), mean, (x - mean).T @ (x - mean))

    def __add__(self, other: Moments) -> Moments:
        """The moments of both sets together, without cancellation (Chan, Golub and LeVeque 1983)."""
        n = self.n + other.n
        gap = other.mean - self.mean
        scatter = self.scatter + other.scatter + torch.outer(gap, gap) * (self.n * other.n / n)
        return Moments(n, self.mean + gap * (other.n / n), scatter)

    @property
    def covariance(self) -> Tensor:
        """The unbiased covariance, ``(d, d)``; needs n >= 2."""
        return self.scatter / (self.n - 1)


class FeatureMoments:
    """Moments of a stream of features by block; the features themselves are not stored."""

    def __init__(self) -> None:
        self.n = 0
        self._blocks: list[Moments | None] = [None] * NUM_BLOCKS

    def update(self, features: Tensor, prompts: Sequence[str] | None = None) -> None:
        """Add features ``(N, d)``; given their prompts, the jackknife leaves out whole prompts.

        Raises:
            ValueError: features of another width, or not finite.
        """
        width = next((len(block.mean) for block in self._blocks if block), None)
        rows = validate_features(features, width)
        ids = block_ids(len(rows), prompts, self.n)
        for block in ids.unique().tolist():
            new, old = Moments.of(rows[ids == block]), self._blocks[block]
            self._blocks[block] = old + new if old else new
        self.n += len(rows)

    def moments(self, without: int | None = None) -> Moments | None:
        """The moments of all blocks, or of all but one; None where nothing is left."""
        total: Moments | None = None
        for i, block in enumerate(self._blocks):
            if block and i != without:
                total = total + block if total else block
        return total


def frechet_distance(mean1: Tensor, covariance1: Tensor, mean2: Tensor, covariance2: Tensor) -> float:
    """Squared Frechet (2-Wasserstein) distance of two Gaussians, means ``(d,)``, covariances ``(d, d)``.

    The trace of ``(S1 S2)^(1/2)`` is computed from the symmetric ``S1^(1/2) S2 S1^(1/2)``, which has the same
    eigenvalues. The symmetric eigensolver gives no complex ones. Eigenvalues below 0 by rounding count as 0, so
    singular covariances work.
    """
    values, vectors = torch.linalg.eigh(covariance1.double())
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    inner = root @ covariance2.double() @ root
    trace = torch.linalg.eigvalsh((inner + inner.T) / 2).clamp(min=0).sqrt().sum()
    gap = (mean1.double() - mean2.double()).square().sum()
    return max(float(gap + covariance1.double().trace() + covariance2.double().trace() - 2 * trace), 0.0)


def fid(
    reference: FeatureMoments,
    images: FeatureMoments,
    group: str,
    *,
    detector: DetectorId,
    provenance: Provenance,
    min_images: int = MIN_IMAGES,
) -> Score:
    """FID of images against a reference, with a jackknife interval over blocks of prompts.

    Args:
        reference: features of the reference, such as the base model's images.
        images: features of the images.
        group: the images' group.
        detector: the network that computed the features.
        provenance: how the images were generated; name the reference in `extra`.
        min_images: with fewer images on either side the value is None, and `extra["refused"]` gives the reason.
    """
    n = min(reference.n, images.n)
    described = replace(provenance, extra={**provenance.extra, "reference_n": reference.n})
    required = max(min_images, 2)
    if n < required:
        counts = f"there are {images.n} and {reference.n}"
        reason = f"FID needs at least {required} images on either side; {counts}: use KID"
        described = replace(described, extra={**described.extra, "refused": reason})
        return Score("fid", group, None, None, None, images.n, detector, described)
    value = _distance(reference.moments(), images.moments())
    if value is None:
        raise ValueError("FID needs at least two images")
    distances = (_distance(reference.moments(block), images.moments(block)) for block in range(NUM_BLOCKS))
    bounds = jackknife(value, [distance for distance in distances if distance is not None])
    low, high = (max(bounds[0], 0.0), bounds[1]) if bounds else (None, None)
    return Score("fid", group, value, low, high, images.n, detector, described)


def _distance(a: Moments | None, b: Moments | None) -> float | None:
    """The distance, or None where either side has no covariance."""
    if a is None or b is None or min(a.n, b.n) < 2:
        return None
    return frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
