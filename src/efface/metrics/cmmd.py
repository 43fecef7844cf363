"""CMMD (Jayasumana et al., CVPR 2024, arXiv 2401.09603): a distance of two sets of images by their CLIP embeddings.

    CMMD = 1000 ( mean k(x, x') + mean k(y, y') - 2 mean k(x, y) ),    k(x, y) = exp(-|x - y|^2 / (2 sigma^2))

with sigma = 10 on unit vectors. All pairs count, those of an image with itself too, as in the authors' code; the value
is therefore never negative, and only comparable between sets of equal sizes.
"""

from __future__ import annotations

import torch
from torch import Tensor

SIGMA, SCALE = 10.0, 1000.0


class Cmmd:
    """The distance of images to a reference set, also of some of the images only.

    Args:
        features: unit vectors of the images, ``(N, d)``.
        reference: unit vectors of the reference set, ``(M, d)``.

    Raises:
        ValueError: an empty set.
    """

    def __init__(self, features: Tensor, reference: Tensor) -> None:
        if not len(features) or not len(reference):
            raise ValueError("no CMMD of an empty set of images")
        x, y = features.double(), reference.double()
        self._own = _kernel(x, x)
        self._cross = _kernel(x, y).mean(1)
        self._reference = _kernel(y, y).mean()

    def value(self, rows: Tensor | None = None) -> float:
        """Returns the distance of the images with these indices, repeated ones too; of all by default."""
        own = self._own if rows is None else self._own[rows][:, rows]
        cross = self._cross if rows is None else self._cross[rows]
        return SCALE * float(own.mean() + self._reference - 2 * cross.mean())


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return torch.exp(-(torch.cdist(x, y) ** 2) / (2 * SIGMA**2))
