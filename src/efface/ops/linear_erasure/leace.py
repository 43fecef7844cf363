"""LEACE: least-squares concept erasure (Belrose et al., NeurIPS 2023, arXiv 2306.03819).

Of all affine maps after which no linear classifier tells z, the one that changes x least, in every norm at once:

    r(x) = x - W^+ U U^T W (x - E x),        W = cov(x)^(-1/2),    U an orthonormal basis of the range of W cov(x, z)

which takes no square root: any W with W S W^T = I does, such as the inverse of S's Cholesky factor, and W^+ U U^T W =
Sxz (Sxz^T S^-1 Sxz)^+ Sxz^T S^-1. The map takes cov(x, z) to 0 whatever S is, also shrunk: shrinkage changes only what is least.

Columns of z are scaled to variance 1 before their rank is counted, and the tolerance is relative to the largest singular value. The
released code's is absolute (0.01), and cov(x, z) of a rare class is small: below about 1 in 10,000 it erases nothing, silently. That code
can also bound the trace of cov(r(x)) by that of cov(x), with another map mixed in; here it is never larger: with Q = I - P and any metric
T = (1 - w) S + w c I, Q T is symmetric, so tr P T P^T = tr T - tr Q T and tr Q T = tr Q T Q^T >= w c tr Q Q^T >= w c k.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from efface.core.errors import EffaceError, UnknownNameError

from .array_validation import Array, targets, vectors
from .base import LinearEraser
from .moments import Moments, factors, shrunk

METHODS = ("leace", "orth")


class LeaceEraser(LinearEraser):
    """Closed-form erasure of classes or of numbers.

    Args:
        method: ``leace``, or ``orth``, the orthogonal projection with the same guarantee (W = I).
        affine: whether the mean stays; otherwise r(x) = P x.
        shrinkage: of cov(x) towards a multiple of I: True for the optimal one, False for none, or its weight in [0, 1].
        tol: singular values of W cov(x, z) below this share of the largest are none.

    Raises:
        UnknownName: another method. EffaceError: a shrinkage outside [0, 1], or a tolerance outside [0, 1).
    """

    def __init__(
        self, method: str = "leace", *, affine: bool = True, shrinkage: bool | float = False, tol: float = 1e-9
    ) -> None:
        if method not in METHODS:
            raise UnknownNameError("LEACE method", method, METHODS)
        if not 0 <= float(shrinkage) <= 1:
            raise EffaceError(f"shrinkage must be between 0 and 1, not {shrinkage}")
        if not 0 <= tol < 1:
            raise EffaceError(f"tol is relative to the largest singular value and must be in [0, 1), not {tol}")
        self.method, self.affine, self.shrinkage = method, affine, shrinkage
        self.tol = tol
        self.moments: Moments | None = None
        self.classes: list[int] | None = None

    def fit(self, X: Array, z: Array) -> Self:
        """Learns from all rows at once.

        Args:
            X: vectors ``(N, D)``.
            z: integer class labels ``(N,)``, or numbers in floats, ``(N,)`` or ``(N, K)``.

        Raises:
            EffaceError: one class only, a column of z that never changes, or X and z that do not fit each other.
        """
        self.moments = self.classes = None
        known = torch.as_tensor(z)
        whole = known.ndim == 1 and not known.is_floating_point()
        self.partial_fit(X, z, classes=known.unique().tolist() if whole else None)
        self.fitted()
        return self

    def partial_fit(self, X: Array, z: Array, classes: Sequence[int] | None = None) -> Self:
        """Takes more rows in; the map is of all rows so far, the same as from `fit` on them at once.

        Args:
            X: vectors ``(B, D)``.
            z: as for `fit`.
            classes: all labels that will come; needed in the first call where z holds labels.
        """
        x = vectors(X, None if self.moments is None else len(self.moments.mean_x))
        columns = self._columns(targets(z, len(x), x.device), classes)
        if self.moments is None:
            self.moments = Moments.empty(x.shape[1], columns.shape[1], x.device)
        elif self.moments.mean_z.shape[0] != columns.shape[1]:
            raise EffaceError(
                f"z has {columns.shape[1]} columns and had {len(self.moments.mean_z)} before: give as many as then"
            )
        self.moments.add(x, columns)
        self.left = None
        return self

    def fitted(self) -> tuple[Tensor, Tensor, Tensor]:
        """left, right and center, solved where rows came since."""
        if self.moments is not None and self.left is None:
            self._solve(self.moments)
        return super().fitted()

    def _columns(self, z: Tensor, classes: Sequence[int] | None) -> Tensor:
        """Numbers as they are; labels as one column for each class."""
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
        known = torch.tensor(self.classes, device=z.device)
        hot = z[:, None] == known
        if not hot.any(1).all():
            raise EffaceError(
                f"z holds the label {int(z[~hot.any(1)][0])}, which is none of the classes {self.classes}"
            )
        return hot.to(torch.float64)

    def _check(self, moments: Moments) -> None:
        # what is left of a constant column after cancellation is not 0
        scale = moments.n * moments.mean_z.square().clamp(min=1e-300)
        for index in (moments.square <= 1e-24 * scale).nonzero().flatten().tolist():
            if self.classes is None:
                raise EffaceError(f"column {index} of z is the same in every row: there is nothing to erase")
            raise EffaceError(
                f"class {self.classes[index]} has no samples, or all of them: give vectors with and without it"
            )

    def _solve(self, moments: Moments) -> None:
        self._check(moments)
        weight = None if self.shrinkage is True else float(self.shrinkage)
        covariance, target = shrunk(moments.covariance, moments.n, weight), moments.correlates
        if self.method == "leace":
            whiten, back = factors(covariance)
            basis = self._basis(whiten @ target)
            self.left, self.right = back @ basis, basis.T @ whiten
        else:
            self.left = self._basis(target)
            self.right = self.left.T
        self.center = moments.mean_x if self.affine else torch.zeros_like(moments.mean_x)

    def _basis(self, matrix: Tensor) -> Tensor:
        """An orthonormal basis ``(D, k)`` of the matrix's range."""
        left, values, _ = torch.linalg.svd(matrix, full_matrices=False)
        return left[:, values > self.tol * values[0]]
