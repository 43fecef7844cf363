"""What all linear erasers are: r(x) = x - left right (x - center), and how they are used."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor

from efface.core.errors import EffaceError

from .array_validation import Array, like, vectors


class LinearEraser(ABC):
    """An affine map of vectors x in R^D that takes out a subspace of k dimensions.

    Attributes:
        left: ``(D, k)``; right: ``(k, D)``, with right left = I, so that the map is a projection.
        center: ``(D,)``; what does not move.
    """

    left: Tensor | None = None
    right: Tensor | None = None
    center: Tensor | None = None

    @abstractmethod
    def fit(self, X: Array, z: Array) -> Self:
        """Learns the map from vectors ``(N, D)`` and what is to be erased from them, ``(N,)`` or ``(N, K)``."""

    def transform(self, X: Array) -> Array:
        """The vectors ``(N, D)`` without what was erased, of the kind, precision and device of X.

        Raises:
            EffaceError: not fitted, another width, or numbers that are not finite.
        """
        left, right, center = self.fitted()
        x = vectors(X, len(center))
        left, right, center = (part.to(x.device) for part in (left, right, center))
        return like(x - ((x - center) @ right.T) @ left.T, X)

    def fit_transform(self, X: Array, z: Array) -> Array:
        """`fit`, then `transform` of the same vectors."""
        return self.fit(X, z).transform(X)

    def fitted(self) -> tuple[Tensor, Tensor, Tensor]:
        """left, right and center; an `EffaceError` before `fit`."""
        if self.left is None or self.right is None or self.center is None:
            raise EffaceError(f"this {type(self).__name__} has not been fitted: call fit(X, z) first")
        return self.left, self.right, self.center

    @property
    def rank(self) -> int:
        """How many dimensions are taken out."""
        return int(self.fitted()[0].shape[1])

    @property
    def matrix(self) -> Tensor:
        """M ``(D, D)`` of r(x) = M x + bias, in float64."""
        left, right, center = self.fitted()
        return torch.eye(len(center), dtype=left.dtype, device=left.device) - left @ right

    @property
    def bias(self) -> Tensor:
        """The bias ``(D,)`` of r(x) = M x + bias, in float64."""
        left, right, center = self.fitted()
        moved: Tensor = left @ (right @ center)
        return moved
