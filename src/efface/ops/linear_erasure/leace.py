"""LEACE: least-squares concept erasure (Belrose et al., NeurIPS 2023, arXiv 2306.03819).

Of all affine maps after which no linear classifier can predict z, LEACE changes x least, in every norm at once:

    r(x) = x - W^+ U U^T W (x - E x),      W = cov(x)^(-1/2),    U an orthonormal basis of the range of W cov(x, z)

No square root is needed: any W with W S W^T = I gives the same map, such as the inverse of S's Cholesky factor, and
W^+ U U^T W = Sxz (Sxz^T S^-1 Sxz)^+ Sxz^T S^-1. The map takes cov(x, z) to 0 for every S, also a shrunk one: shrinkage
only changes the norm in which the map is least.

Columns of z are scaled to variance 1 before their rank is counted, and the tolerance is relative to the largest
singular value. The released code's tolerance is absolute (0.01): a class rarer than about 1 in 10,000 has a small
cov(x, z) and is then not erased, without a message. That code can also bound the trace of cov(r(x)) by that of cov(x)
by mixing in another map. Here the trace never grows: with Q = I - P and any metric T = (1 - w) S + w c I, Q T is
symmetric, so tr P T P^T = tr T - tr Q T and tr Q T = tr Q T Q^T >= w c tr Q Q^T >= w c k.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from efface.core.errors import EffaceError, UnknownNameError

from .array_validation import Array, to_targets, to_vectors
from .base import LinearEraser
from .moments import Moments, shrink_covariance, whitening_factors

METHODS = ("leace", "orth")


class LeaceEraser(LinearEraser):
    """Erases classes or numbers in closed form.

    Args:
        method: ``leace``, or ``orth``, the orthogonal projection with the same guarantee (W = I).
        affine: whether the mean is preserved; otherwise r(x) = P x.
        shrinkage: of cov(x) towards a multiple of I: True for the optimal weight, False for none, or a weight.
        tolerance: singular values of W cov(x, z) below this share of the largest count as 0.

    Raises:
        UnknownNameError: an unknown method.
        EffaceError: a shrinkage outside [0, 1], or a tolerance outside [0, 1).
    """

    def __init__(
        self, method: str = "leace", *, affine: bool = True, shrinkage: bool | float = False, tolerance: float = 1e-9
    ) -> None:
        if method not in METHODS:
            raise UnknownNameError("LEACE method", method, METHODS)
        if not 0 <= float(shrinkage) <= 1:
            raise EffaceError(f"shrinkage must be between 0 and 1, not {shrinkage}")
        if not 0 <= tolerance < 1:
            raise EffaceError(f"tolerance is a share of the largest singular value in [0, 1), not {tolerance}")
        self.method, self.affine, self.shrinkage = method, affine, shrinkage
        self.tolerance = tolerance
        self.moments: Moments | None = None
        self.classes: list[int] | None = None

    def fit(self, X: Array, z: Array) -> Self:
        """Fits the map to all rows.

        Args:
            X: vectors ``(N, D)``.
            z: integer class labels ``(N,)``, or numbers in floats, ``(N,)`` or ``(N, K)``.

        Raises:
            EffaceError: only one class, a constant column of z, or X and z of different lengths.
        """
        self.moments = self.classes = None
        tensor = torch.as_tensor(z)
        is_labels = tensor.ndim == 1 and not tensor.is_floating_point()
        self.partial_fit(X, z, classes=tensor.unique().tolist() if is_labels else None)
        self.fitted()
        return self

    def partial_fit(self, X: Array, z: Array, classes: Sequence[int] | None = None) -> Self:
        """Adds rows; the map is then the same as from `fit` on all rows so far.

        Args:
            X: vectors ``(B, D)``.
            z: as for `fit`.
            classes: all labels of all calls; required in the first call if z holds labels.

        Raises:
            EffaceError: another number of columns than before, or labels that are no classes.
        """
        x = to_vectors(X, None if self.moments is None else len(self.moments.mean_x))
        columns = self._columns(to_targets(z, len(x), x.device), classes)
        if self.moments is None:
            self.moments = Moments.empty(x.shape[1], columns.shape[1], x.device)
        elif self.moments.mean_z.shape[0] != columns.shape[1]:
            raise EffaceError(
                f"z has {columns.shape[1]} columns and had {len(self.moments.mean_z)} before: give the same number"
            )
        self.moments.add(x, columns)
        self.left = None
        return self

    def fitted(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns left, right and center; solves for them if rows were added."""
        if self.moments is not None and self.left is None:
            self._solve(self.moments)
        return super().fitted()

    def _columns(self, z: Tensor, classes: Sequence[int] | None) -> Tensor:
        """Returns numbers unchanged, and labels as one column for each class."""
        if z.ndim == 2:
            return z
        if self.moments is None:
            if classes is None:
                raise EffaceError(
                    "z holds labels: name all of them in the first call, as partial_fit(X, z, classes=[0, 1])"
                )
            self.classes = sorted(set(classes))
        if self.classes is None:
            raise EffaceError("z held numbers before and holds labels now: give the same kind in every call")
        if len(self.classes) < 2:
            raise EffaceError(f"z has one class only ({self.classes[0]}): give vectors of at least two classes")
        one_hot = z[:, None] == torch.tensor(self.classes, device=z.device)
        if not one_hot.any(1).all():
            raise EffaceError(
                f"z holds the label {int(z[~one_hot.any(1)][0])}, which is none of the classes {self.classes}"
            )
        return one_hot.to(torch.float64)

    def _check_constant_columns(self, moments: Moments) -> None:
        # the variance of a constant column is not exactly 0 after cancellation
        scale = moments.n * moments.mean_z.square().clamp(min=1e-300)
        for index in (moments.square <= 1e-24 * scale).nonzero().flatten().tolist():
            if self.classes is None:
                raise EffaceError(f"column {index} of z is the same in every row: there is nothing to erase")
            raise EffaceError(
                f"class {self.classes[index]} has no samples, or all of them: give vectors with and without it"
            )

    def _solve(self, moments: Moments) -> None:
        self._check_constant_columns(moments)
        weight = None if self.shrinkage is True else float(self.shrinkage)
        covariance, target = shrink_covariance(moments.covariance, moments.n, weight), moments.scaled_cross_covariance
        if self.method == "leace":
            whiten, back = whitening_factors(covariance)
            basis = self._basis(whiten @ target)
            self.left, self.right = back @ basis, basis.T @ whiten
        else:
            self.left = self._basis(target)
            self.right = self.left.T
        self.center = moments.mean_x if self.affine else torch.zeros_like(moments.mean_x)

    def _basis(self, matrix: Tensor) -> Tensor:
        """Returns an orthonormal basis ``(D, k)`` of the matrix's range."""
        left, values, _ = torch.linalg.svd(matrix, full_matrices=False)
        return left[:, values > self.tolerance * values[0]]
