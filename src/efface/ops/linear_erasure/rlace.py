"""R-LACE: relaxed linear adversarial concept erasure (Ravfogel et al., ICML 2022, arXiv 2201.12091).

    max over P in F_k    min over theta, b    E loss( z, theta^T (I - P) x + b ),      F_k = { 0 <= P <= I, tr P = k }

by alternating gradient steps; each of P's is followed by the projection on the Fantope F_k (`fantope`). The result
projects on the k largest eigenvectors of the P with the largest loss of a newly fitted classifier. The minimax starts
from a random P, as published, or with ``warm_start`` from the directions in which class means differ (the orthogonal
LEACE). With a rank of at least their number these already remove all linear information, and the first check ends the
run; with a smaller rank the minimax chooses among them.

The published classifier of two classes has one logit. Two logits, as here, move apart twice as fast at the same
learning rate, so that theirs is halved. Unlike the published one, the bias has no weight decay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from efface.core.errors import EffaceError

from .array_validation import Array, to_class_indices, to_vectors
from .base import LinearEraser
from .fantope import FantopePoint
from .inlp import extend_basis
from .leace import LeaceEraser
from .probe import Probe, majority_share


class RlaceEraser(LinearEraser):
    """Erases classes by an orthogonal projection against an adversarial linear classifier.

    Args:
        rank: number of removed dimensions, k.
        steps: steps of the minimax.
        learning_rate: of both players (plain gradient steps).
        weight_decay: of both players.
        batch_size: rows a step.
        check_every: steps between newly fitted classifiers.
        tolerance: the run ends once a classifier's accuracy is this close to the most frequent class's share.
        warm_start: start from the directions of the class means.
        rescale: divide the vectors by their root mean square first, so that the learning rate means the same at every
            scale; the published code does not.
        affine: whether the mean is preserved; the published map is linear.
        seed: seed of start and batches.
        progress: called at every check with the number of completed steps and the accuracy.

    Attributes:
        accuracy: accuracy of a newly fitted classifier after the erasure.
        majority: share of the most frequent class.

    Raises:
        EffaceError: a rank, steps, batch_size or check_every below 1.
    """

    def __init__(
        self,
        rank: int = 1,
        *,
        steps: int = 75_000,
        learning_rate: float = 0.005,
        weight_decay: float = 1e-4,
        batch_size: int = 128,
        check_every: int = 1000,
        tolerance: float = 0.0015,
        warm_start: bool = False,
        rescale: bool = False,
        affine: bool = False,
        seed: int = 0,
        progress: Callable[[int, float], None] | None = None,
    ) -> None:
        counts = {"rank": rank, "steps": steps, "batch_size": batch_size, "check_every": check_every}
        for name, value in counts.items():
            if value < 1:
                raise EffaceError(f"R-LACE's {name} is {value}: give at least 1")
        self.k = rank
        self.steps = steps
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.check_every = check_every
        self.tolerance = tolerance
        self.warm_start = warm_start
        self.rescale = rescale
        self.affine = affine
        self.seed = seed
        self.progress = progress
        self.accuracy = self.majority = 0.0

    def fit(self, X: Array, z: Array) -> Self:
        """Fits the map to vectors ``(N, D)`` and class labels ``(N,)``; raises `EffaceError` for invalid input."""
        x = to_vectors(X)
        y, classes = to_class_indices(z, len(x), x.device)
        if self.k >= x.shape[1]:
            raise EffaceError(f"rank {self.k} leaves nothing of vectors {x.shape[1]} wide: give a smaller one")
        center = x.mean(0) if self.affine else torch.zeros_like(x[0])
        self.majority = majority_share(y)
        basis = self._minimax(x - center, y, len(classes))
        self.left, self.right, self.center = basis.T, basis, center
        return self

    def _minimax(self, x: Tensor, y: Tensor, num_classes: int) -> Tensor:
        """Returns the best projection's basis, ``(k, D)``."""
        generator = torch.Generator().manual_seed(self.seed)
        if self.rescale:
            x = x / (float(x.square().mean().sqrt()) or 1.0)
        point = self._start(x, y, generator)
        theta, bias = x.new_zeros(x.shape[1], num_classes), x.new_zeros(num_classes)
        best, largest_loss = self._basis(point, generator), -1.0
        for step in range(self.steps + 1):
            if step % self.check_every == 0 or step == self.steps:
                basis = self._basis(point, generator)
                erased = x - (x @ basis.T) @ basis
                probe = Probe.fit(erased, y, num_classes)
                accuracy, loss = probe.accuracy(erased, y), probe.loss(erased, y)
                if loss > largest_loss:
                    best, largest_loss, self.accuracy = basis, loss, accuracy
                if self.progress:
                    self.progress(step, accuracy)
                if abs(accuracy - self.majority) < self.tolerance:
                    self.accuracy = accuracy
                    return basis
            if step < self.steps:
                rows = torch.randint(len(x), (self.batch_size,), generator=generator).to(x.device)
                point = self._ascend(point, x[rows], y[rows], theta, bias)
                self._descend(point, x[rows], y[rows], theta, bias)
        return best

    def _start(self, x: Tensor, y: Tensor, generator: torch.Generator) -> FantopePoint:
        width = x.shape[1]
        if not self.warm_start:
            noise = 0.1 * torch.randn(width, width, generator=generator, dtype=x.dtype).to(x.device)
            return FantopePoint.nearest((noise + noise.T) / 2, self.k)
        means = LeaceEraser("orth").fit(x, y).fitted()[0].T
        basis = complete_basis(means, self.k, generator)[: self.k] if len(means) < self.k else means
        return FantopePoint(basis.T, basis.new_full((len(basis),), self.k / len(basis)))

    def _basis(self, point: FantopePoint, generator: torch.Generator) -> Tensor:
        return complete_basis(point.top_directions(self.k).T, self.k, generator)

    def _gradient(
        self, point: FantopePoint, x: Tensor, y: Tensor, theta: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns (I - P) x and the gradient of the loss with respect to the logits, ``(B, C)``."""
        erased = x - point.times(x.T).T
        logits = (erased @ theta + bias).requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(cross_entropy(logits, y), logits)
        return erased, gradient

    def _ascend(self, point: FantopePoint, x: Tensor, y: Tensor, theta: Tensor, bias: Tensor) -> FantopePoint:
        """Projects P + lr dL/dP on the Fantope, with dL/dP = -theta (x^T dL/dlogits)^T made symmetric."""
        _, gradient = self._gradient(point, x, y, theta, bias)
        decay = 1 - self.learning_rate * self.weight_decay
        decayed = FantopePoint(point.directions, point.values * decay, point.rest * decay)
        return decayed.step(-self.learning_rate * theta, x.T @ gradient, self.k)

    def _descend(self, point: FantopePoint, x: Tensor, y: Tensor, theta: Tensor, bias: Tensor) -> None:
        """Updates the classifier by one gradient step in place."""
        erased, gradient = self._gradient(point, x, y, theta, bias)
        if gradient.shape[1] == 2:  # one logit, the difference of two: each takes half of its step
            gradient = gradient / 2
        theta -= self.learning_rate * (erased.T @ gradient + self.weight_decay * theta)
        bias -= self.learning_rate * gradient.sum(0)


def complete_basis(basis: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Extends orthonormal rows to at least k with random directions."""
    while len(basis) < k:
        noise = torch.randn(k - len(basis), basis.shape[1], generator=generator, dtype=basis.dtype)
        basis = extend_basis(basis, noise.to(basis.device))
    return basis
