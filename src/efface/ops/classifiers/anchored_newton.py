"""The anchored forget problem of the last layer: convex, solved by Newton steps in the span of the forget features.

    min_D  mean_i CE(t, softmax(z_i + D x_i)) + rho/2 ||D||^2,     D: (C, d), x_i: (d,) features with a 1 for the bias

The gradient of the first term is a sum of outer products with the x_i, so that the optimum is ``D = B V^T`` with the
right singular vectors V of the features; the problem is solved for B, ``(C, r)`` with r at most the number of images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .forgetting_loss import forget_loss

TOLERANCE = 1e-9
"""Norm of the gradient at which the problem counts as solved."""
_ARMIJO, _SMALLEST_STEP = 1e-4, 1e-10


@dataclass(frozen=True)
class NewtonSolution:
    """The solution for the last layer.

    Attributes:
        delta: change of the last layer, ``(C, d)`` float64.
        influence: the first full Newton step from 0, ``(C, d)``: the influence function's estimate.
        loss_before: forget loss before.
        loss_after: forget loss after.
        gradient_norm: norm of the objective's gradient at ``delta``.
        steps: number of Newton steps.
    """

    delta: Tensor
    influence: Tensor
    loss_before: float
    loss_after: float
    gradient_norm: float
    steps: int


def solve_last_layer(logits: Tensor, features: Tensor, target: Tensor, rho: float, max_steps: int) -> NewtonSolution:
    """Solves the problem.

    Args:
        logits: original logits z of the images to forget, ``(n, C)`` float64.
        features: their features x, ``(n, d)`` float64.
        target: target distribution t, ``(C,)``.
        rho: weight of the anchor.
        max_steps: largest number of Newton steps.
    """
    basis = _row_space(features)
    inputs = features @ basis
    problem = _Problem(logits, inputs, target, rho)
    point = torch.zeros(logits.shape[1], inputs.shape[1], dtype=torch.float64)
    influence, steps = point, 0
    for number in range(max_steps):
        gradient = problem.gradient(point)
        if float(gradient.norm()) <= TOLERANCE:
            break
        direction = conjugate_gradients(problem.hessian(point), -gradient)
        if number == 0:
            influence = direction
        moved = _line_search(problem, point, direction, gradient)
        if moved is None:
            break
        point, steps = moved, number + 1
    losses = [float(forget_loss(problem.logits(b), target)) for b in (torch.zeros_like(point), point)]
    final = float(problem.gradient(point).norm())
    return NewtonSolution(point @ basis.T, influence @ basis.T, losses[0], losses[1], final, steps)


def _row_space(features: Tensor) -> Tensor:
    """Returns an orthonormal basis of the features' span, ``(d, r)``."""
    _, s, vt = torch.linalg.svd(features, full_matrices=False)
    rank = int((s > s[0] * 1e-12).sum())
    return vt[:rank].T


@dataclass(frozen=True)
class _Problem:
    """The objective in the coordinates B."""

    original: Tensor
    inputs: Tensor
    target: Tensor
    rho: float

    def logits(self, point: Tensor) -> Tensor:
        return self.original + self.inputs @ point.T

    def value(self, point: Tensor) -> float:
        return float(forget_loss(self.logits(point), self.target) + self.rho / 2 * point.square().sum())

    def gradient(self, point: Tensor) -> Tensor:
        error = self.logits(point).softmax(-1) - self.target
        return error.T @ self.inputs / len(self.inputs) + self.rho * point

    def hessian(self, point: Tensor) -> Callable[[Tensor], Tensor]:
        """Returns the product of the Hessian with a direction; per image it is ``(diag p - p p^T) kron x x^T``."""
        p = self.logits(point).softmax(-1)

        def product(direction: Tensor) -> Tensor:
            moved = p * (self.inputs @ direction.T)
            curved = moved - p * moved.sum(-1, keepdim=True)
            return curved.T @ self.inputs / len(self.inputs) + self.rho * direction

        return product


def conjugate_gradients(product: Callable[[Tensor], Tensor], right: Tensor, tolerance: float = 1e-10) -> Tensor:
    """Solves ``H x = right`` for a positive definite H that is given by its products."""
    x, residual = torch.zeros_like(right), right.clone()
    direction, size = residual, float(residual.square().sum())
    goal = size * tolerance**2
    for _ in range(min(4 * right.numel(), 2000)):
        if size <= goal:
            break
        image = product(direction)
        length = size / float((direction * image).sum())
        x, residual = x + length * direction, residual - length * image
        new_size = float(residual.square().sum())
        direction, size = residual + new_size / size * direction, new_size
    return x


def _line_search(problem: _Problem, point: Tensor, direction: Tensor, gradient: Tensor) -> Tensor | None:
    """Returns the point after the longest of the steps 1, 1/2, ... that lowers the objective; None without one."""
    before, slope, step = problem.value(point), float((gradient * direction).sum()), 1.0
    while step > _SMALLEST_STEP:
        moved = point + step * direction
        if problem.value(moved) <= before + _ARMIJO * step * slope:
            return moved
        step /= 2
    return None
