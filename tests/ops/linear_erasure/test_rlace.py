"""R-LACE on vectors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.labelled_vectors import above_majority, vectors_with_labels
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from efface.core.errors import EffaceError
from efface.ops.linear_erasure import RlaceEraser


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_rlace_ends_near_the_majority(warm: bool, classes: int) -> None:
    x, y = vectors_with_labels(7, classes, n=1000)
    settings: dict[str, Any] = {"steps": 600, "check_every": 100, "learning_rate": 0.02, "affine": True, "seed": 1}
    eraser = RlaceEraser(classes - 1, warm_start=warm, **settings)
    erased = eraser.fit_transform(x, y)
    assert eraser.rank == classes - 1
    assert above_majority(x, y) > 0.2
    assert above_majority(erased, y) < 0.06
    again = RlaceEraser(classes - 1, warm_start=warm, **settings)
    assert torch.equal(again.fit_transform(x, y), erased), "deterministic"


def test_a_warm_start_with_all_directions_ends_at_the_first_check() -> None:
    x, y = vectors_with_labels(2, 3)
    checks: list[int] = []
    RlaceEraser(2, warm_start=True, affine=True, progress=lambda step, _: checks.append(step)).fit(x, y)
    assert checks == [0]


def test_two_classes_are_a_game_against_one_logit() -> None:
    """The published game: binary cross-entropy of x^T (I - P) theta + b, SGD on both, then the Fantope by bisection."""
    x, y = vectors_with_labels(3, 2, n=64)
    eraser = RlaceEraser(1, weight_decay=1e-2, seed=2)
    point, generator = eraser._start(x, y, torch.Generator().manual_seed(2)), torch.Generator().manual_seed(5)
    eye = torch.eye(8, dtype=torch.float64)
    p, theta, bias = point.times(eye), torch.zeros(8, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    thetas, biases = torch.zeros(8, 2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for _ in range(10):
        rows = torch.randint(64, (16,), generator=generator)
        point = eraser._ascend(point, x[rows], y[rows], thetas, biases)
        eraser._descend(point, x[rows], y[rows], thetas, biases)
        p.requires_grad_()
        (gradient,) = torch.autograd.grad(binary_loss(p, theta, bias, x[rows], y[rows]), p)
        p = fantope_by_bisection(p.detach() * (1 - 0.005 * 1e-2) + 0.005 * gradient)
        theta.requires_grad_(), bias.requires_grad_()
        steps = torch.autograd.grad(binary_loss(p, theta, bias, x[rows], y[rows]), [theta, bias])
        theta = theta.detach() - 0.005 * (steps[0] + 1e-2 * theta.detach())
        bias = bias.detach() - 0.005 * steps[1]
    torch.testing.assert_close(thetas[:, [1]] - thetas[:, [0]], theta, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(point.times(eye), p, rtol=1e-9, atol=1e-9)
    assert float(theta.norm()) > 0.01


def binary_loss(p: Tensor, theta: Tensor, bias: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The published loss, with a symmetric P."""
    p = (p + p.T) / 2
    return binary_cross_entropy_with_logits((x @ (torch.eye(8) - p) @ theta + bias)[:, 0], y.double())


def fantope_by_bisection(matrix: Tensor) -> Tensor:
    """Projects a symmetric matrix on the Fantope of trace 1."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    low, high = values.min() - 1, values.max()
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if (values - middle).clamp(0, 1).sum() > 1 else (low, middle)
    return vectors * (values - low).clamp(0, 1) @ vectors.T


def test_rescaling_makes_the_learning_rate_independent_of_the_scale() -> None:
    x, y = vectors_with_labels(7, 2, n=200)
    maps = {
        (rescale, scale): RlaceEraser(1, steps=10, check_every=10, rescale=rescale, seed=1).fit(x * scale, y).matrix
        for rescale in (True, False)
        for scale in (1.0, 100.0)
    }
    torch.testing.assert_close(maps[True, 1.0], maps[True, 100.0])
    assert not torch.allclose(maps[False, 1.0], maps[False, 100.0], atol=1e-3)


def test_the_accuracy_is_that_of_the_returned_projection() -> None:
    """The warm start is the best projection; the run ends at the second check, at a worse one."""
    x, y = vectors_with_labels(7, 2, n=200)
    eraser = RlaceEraser(1, steps=20, check_every=10, learning_rate=0.5, warm_start=True, tolerance=0, affine=True)
    checks: list[float] = []

    def end_at_the_second_check(_: int, accuracy: float) -> None:
        checks.append(accuracy)
        eraser.tolerance = float(len(checks) == 2)

    eraser.progress = end_at_the_second_check
    eraser.fit(x, y)
    assert checks[0] < checks[1] == eraser.accuracy


def test_a_rank_of_the_full_width_is_refused() -> None:
    x, y = vectors_with_labels(0, 3)
    with pytest.raises(EffaceError, match="leaves nothing"):
        RlaceEraser(8).fit(x, y)
