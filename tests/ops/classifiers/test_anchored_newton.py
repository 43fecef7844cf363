"""The last layer's convex problem: its optimum, its bounds, and the influence estimate."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from efface.ops.classifiers.anchored_newton import conjugate_gradients, solve_last_layer
from efface.ops.classifiers.bounds import gradient_bound, loss_bound, output_bound
from efface.ops.classifiers.forgetting_loss import forget_loss, smallest_loss, target_distribution
from efface.ops.classifiers.last_layer import Outputs, anchor_metric, solve


def problem(seed: int, n: int, classes: int, width: int, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, width, dtype=torch.float64, generator=generator)
    weight = scale * torch.randn(classes, width, dtype=torch.float64, generator=generator)
    return features @ weight.T, features


def test_the_solution_is_the_optimum_that_gradient_descent_finds() -> None:
    logits, features = problem(0, 5, 3, 4, 1.0)
    target, rho = target_distribution("uniform", 3, ()), 0.1
    solution = solve_last_layer(logits, features, target, rho, 50)
    delta = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    for _ in range(800):
        loss = forget_loss(logits + features @ delta.T, target) + rho / 2 * delta.square().sum()
        (gradient,) = torch.autograd.grad(loss, delta)
        delta = (delta - 0.3 * gradient).detach().requires_grad_(True)
    assert torch.allclose(solution.delta, delta.detach(), atol=1e-7)
    assert solution.gradient_norm < 1e-8


def test_conjugate_gradients_solve_a_positive_definite_system() -> None:
    root = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    matrix, right = root @ root.T + torch.eye(6), torch.arange(6, dtype=torch.float64)
    assert torch.allclose(matrix @ conjugate_gradients(lambda x: matrix @ x, right), right, atol=1e-7)


def test_with_a_heavy_anchor_the_influence_estimate_is_the_optimum() -> None:
    logits, features = problem(2, 6, 4, 5, 1.0)
    target = target_distribution("uniform", 4, ())
    near, far = (solve_last_layer(logits, features, target, rho, 50) for rho in (100.0, 0.01))
    errors = [float((s.influence - s.delta).norm() / s.delta.norm()) for s in (near, far)]
    assert errors[0] < 1e-2 < errors[1]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 12),
    classes=st.integers(2, 8),
    width=st.integers(1, 10),
    scale=st.floats(0.0, 30.0),
    log_rho=st.floats(-6, 3),
    steps=st.integers(1, 60),
    kind=st.sampled_from(["uniform", "others"]),
    weight=st.sampled_from([None, 1.0, 1000.0]),
)
def test_no_bound_is_ever_violated(
    seed: int, n: int, classes: int, width: int, scale: float, log_rho: float, steps: int, kind: str,
    weight: float | None,
) -> None:  # fmt: skip
    logits, features = problem(seed, n, classes, width, scale)
    checked_logits, checked = problem(seed + 1, 20, classes, width, scale)
    target = target_distribution(kind, classes, [0])
    metric = anchor_metric(None if weight is None else checked, weight or 0.0, width)
    solution = solve(Outputs(features, logits), Outputs(checked, checked_logits), target, 10.0**log_rho, steps, metric)
    slack = 1 + 1e-9
    assert solution.parameters.measured <= solution.parameters.from_loss * slack + 1e-12
    assert solution.parameters.measured <= solution.parameters.bound * slack + 1e-12
    assert solution.outputs.largest_share <= slack
    assert solution.outputs.largest_probability_share <= slack


def test_bounds_at_hand_computed_values() -> None:
    target = target_distribution("uniform", 4, ())
    assert smallest_loss(target) == pytest.approx(math.log(4))
    assert loss_bound(math.log(4) + 2.0, target, 0.25) == pytest.approx(4.0)
    assert gradient_bound(torch.tensor([[3.0, 4.0]]).double(), target, 0.5, 0.0) == pytest.approx(10 * math.sqrt(0.75))
    before = torch.zeros(1, 4).double()
    bound = output_bound(before, before + torch.tensor([3.0, 0, 0, 4.0]), torch.tensor([[2.0]]).double(), 5.0)
    assert (bound.measured, bound.bound, bound.largest_share) == (5.0, 10.0, 0.5)


def test_others_leaves_the_forgotten_classes_out() -> None:
    assert target_distribution("others", 4, [1]).tolist() == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3])
