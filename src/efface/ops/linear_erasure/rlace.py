"""R-LACE: relaxed linear adversarial concept erasure (Ravfogel et al., ICML 2022, arXiv 2201.12091).

    max over P in F_k    min over theta, b    E loss( z, theta^T (I - P) x + b ),        F_k = { 0 <= P <= I, tr P = k }

by gradient steps in turn, P's each followed by the projection on the Fantope F_k (`fantope`); at the end P is the projection on the k
largest eigenvectors of the P that a newly fitted classifier did worst on. The minimax starts from a random P, as published, or with
``warm_start`` from the directions in which class means differ (the orthogonal LEACE). For a rank of at least their number these already
leave no linear information, and the first check ends the run; below, the minimax chooses among them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from efface.core.errors import EffaceError

from .array_validation import Array, labels, vectors
from .base import LinearEraser
from .fantope import FantopePoint
from .inlp import extend_basis
from .leace import LeaceEraser
from .probe import Probe, majority


class RlaceEraser(LinearEraser):
    """Erasure of classes by an orthogonal projection that no linear classifier can beat.

    Args:
        rank: how many dimensions are taken out, k.
        steps: of the minimax.
        lr: of both players (plain gradient steps).
        decay: weight decay of both.
        batch: rows a step.
        check: steps between newly fitted classifiers.
        tolerance: how far from the most frequent class a classifier's accuracy may be for the run to end.
        warm_start: start from the directions of the class means.
        affine: whether the mean stays; the published map is linear.
        seed: of start and batches.
        progress: called with the number of steps done and the accuracy, at every check.

    Attributes:
        accuracy: of a newly fitted classifier after the erasure. majority: the most frequent class's.

    Raises:
        EffaceError: a rank, steps, batch or check below 1.
    """

    def __init__(
        self, rank: int = 1, *, steps: int = 75_000, lr: float = 0.005, decay: float = 1e-4, batch: int = 128, check: int = 1000,
        tolerance: float = 0.0015, warm_start: bool = False, affine: bool = False, seed: int = 0,
        progress: Callable[[int, float], None] | None = None,
    ) -> None:  # fmt: skip
        for name, value in {"rank": rank, "steps": steps, "batch": batch, "check": check}.items():
            if value < 1:
                raise EffaceError(f"R-LACE's {name} is {value}: give at least 1")
        self.k, self.steps, self.lr, self.decay, self.batch, self.check = rank, steps, lr, decay, batch, check
        self.tolerance, self.warm_start, self.affine, self.seed, self.progress = (
            tolerance,
            warm_start,
            affine,
            seed,
            progress,
        )
        self.accuracy = self.majority = 0.0

    def fit(self, X: Array, z: Array) -> Self:
        """Learns from vectors ``(N, D)`` and class labels ``(N,)``; an `EffaceError` where these do not fit each other."""
        x = vectors(X)
        y, classes = labels(z, len(x), x.device)
        if self.k >= x.shape[1]:
            raise EffaceError(f"rank {self.k} leaves nothing of vectors {x.shape[1]} wide: give a smaller one")
        center = x.mean(0) if self.affine else torch.zeros_like(x[0])
        self.majority = majority(y)
        basis = self._play(x - center, y, len(classes))
        self.left, self.right, self.center = basis.T, basis, center
        return self

    def _play(self, x: Tensor, y: Tensor, classes: int) -> Tensor:
        """The best projection's basis, ``(k, D)``."""
        generator = torch.Generator().manual_seed(self.seed)
        scale = float(x.square().mean().sqrt()) or 1.0  # the learning rate means the same at every scale
        x = x / scale
        point = self._start(x, y, generator)
        theta, bias = x.new_zeros(x.shape[1], classes), x.new_zeros(classes)
        best, worst = self._basis(point, generator), -1.0
        for step in range(self.steps + 1):
            if step % self.check == 0 or step == self.steps:
                basis = self._basis(point, generator)
                probe = Probe.fit(rest := x - (x @ basis.T) @ basis, y, classes)
                accuracy, loss = probe.accuracy(rest, y), probe.loss(rest, y)
                if loss > worst:
                    best, worst, self.accuracy = basis, loss, accuracy
                if self.progress:
                    self.progress(step, accuracy)
                if abs(accuracy - self.majority) < self.tolerance:
                    return basis
            if step < self.steps:
                rows = torch.randint(len(x), (self.batch,), generator=generator).to(x.device)
                point = self._ascend(point, x[rows], y[rows], theta, bias)
                self._descend(point, x[rows], y[rows], theta, bias)
        return best

    def _start(self, x: Tensor, y: Tensor, generator: torch.Generator) -> FantopePoint:
        width = x.shape[1]
        if not self.warm_start:
            noise = 0.1 * torch.randn(width, width, generator=generator, dtype=x.dtype).to(x.device)
            return FantopePoint.of((noise + noise.T) / 2, self.k)
        means = LeaceEraser("orth").fit(x, y).fitted()[0].T
        basis = filled(means, self.k, generator)[: self.k] if len(means) < self.k else means
        return FantopePoint(basis.T, basis.new_full((len(basis),), self.k / len(basis)))

    def _basis(self, point: FantopePoint, generator: torch.Generator) -> Tensor:
        return filled(point.top(self.k).T, self.k, generator)

    def _gradient(
        self, point: FantopePoint, x: Tensor, y: Tensor, theta: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(I - P) x and the loss's gradient by the logits, ``(B, C)``."""
        seen = x - point.times(x.T).T
        logits = (seen @ theta + bias).requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(cross_entropy(logits, y), logits)
        return seen, slope

    def _ascend(self, point: FantopePoint, x: Tensor, y: Tensor, theta: Tensor, bias: Tensor) -> FantopePoint:
        """P + lr dL/dP with dL/dP = -theta (x^T dL/dlogits)^T, made symmetric and put back on the Fantope."""
        _, slope = self._gradient(point, x, y, theta, bias)
        shrunk = FantopePoint(
            point.directions, point.values * (1 - self.lr * self.decay), point.rest * (1 - self.lr * self.decay)
        )
        return shrunk.moved(-self.lr * theta, x.T @ slope, self.k)

    def _descend(self, point: FantopePoint, x: Tensor, y: Tensor, theta: Tensor, bias: Tensor) -> None:
        """One step of the classifier, in place."""
        seen, slope = self._gradient(point, x, y, theta, bias)
        theta -= self.lr * (seen.T @ slope + self.decay * theta)
        bias -= self.lr * slope.sum(0)


def filled(basis: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Orthonormal rows, at least k of them: what is missing is random."""
    while len(basis) < k:
        basis = extend_basis(
            basis, torch.randn(k - len(basis), basis.shape[1], generator=generator, dtype=basis.dtype).to(basis.device)
        )
    return basis
