"""The common interface of linear erasers: r(x) = x - left right (x - center)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor

from efface.core.errors import EffaceError

from .array_validation import Array, restore_type, to_vectors


class LinearEraser(ABC):
    """An affine map of vectors x in R^D that removes a subspace of k dimensions.

    Attributes:
        left: ``(D, k)``.
        right: ``(k, D)``, with right left = I, so that the map is a projection.
        center: fixed point of the map, ``(D,)``.
    """

    left: Tensor | None = None
    right: Tensor | None = None
    center: Tensor | None = None

    @abstractmethod
    def fit(self, X: Array, z: Array) -> Self:
        """Fits the map to vectors ``(N, D)`` and the labels or numbers to erase, ``(N,)`` or ``(N, K)``."""

    def transform(self, X: Array) -> Array:
        """Erases from vectors ``(N, D)``; the result has the type, precision and device of X.

        Raises:
            EffaceError: not fitted, another width, or numbers that are not finite.
        """
        left, right, center = self.fitted()
        x = to_vectors(X, len(center))
        left, right, center = left.to(x.device), right.to(x.device), center.to(x.device)
        return restore_type(x - ((x - center) @ right.T) @ left.T, X)

    def fit_transform(self, X: Array, z: Array) -> Array:
        """Fits the map and applies it to the same vectors."""
        return self.fit(X, z).transform(X)

    def fitted(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns left, right and center; raises `EffaceError` before `fit`."""
        if self.left is None or self.right is None or self.center is None:
            raise EffaceError(f"this {type(self).__name__} has not been fitted: call fit(X, z) first")
        return self.left, self.right, self.center

    @property
    def rank(self) -> int:
        """Number of removed dimensions."""
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
        bias: Tensor = left @ (right @ center)
        return bias
