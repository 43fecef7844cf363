"""Gradient surgery: what it removes, when, and the published code's other scale."""

from __future__ import annotations

import pytest
import torch

from efface.core.errors import UnknownNameError
from efface.ops.training.gradient_surgery import GradientSurgery, project_gradient

P = torch.tensor([[3.0, 0.0], [0.0, 4.0]])


def test_the_projection_removes_the_opposing_part() -> None:
    g = torch.tensor([[-1.0, 2.0], [5.0, -1.0]])
    projected = project_gradient(g, P)
    assert float((projected * P).sum()) == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(projected, g + 7 / 25 * P)
    torch.testing.assert_close(project_gradient(g, P, 0.5), g + 3.5 / 25 * P)


def test_a_gradient_that_does_not_oppose_is_unchanged() -> None:
    g = torch.tensor([[1.0, -9.0], [0.0, 0.0]])
    assert torch.equal(project_gradient(g, P), g)
    assert torch.equal(project_gradient(g, torch.zeros_like(P)), g)


def test_the_published_code_descends_the_retained_loss_where_the_gradient_is_small() -> None:
    g = -0.1 * P / P.norm()
    assert float((project_gradient(g, P) * P).sum()) == pytest.approx(0, abs=1e-6)
    released = project_gradient(g, P, scale="released")
    torch.testing.assert_close(released, g + P / P.norm())
    assert float((released * P).sum()) > 0
    with pytest.raises(UnknownNameError, match="unknown gradient surgery 'exact'"):
        project_gradient(g, P, scale="exact")


def test_it_changes_held_gradients_after_clipping_both() -> None:
    parameters = {name: torch.zeros(2, 2, requires_grad=True) for name in ("a", "b")}
    parameters["a"].grad, parameters["b"].grad = -3 * P, 4 * torch.eye(2)
    GradientSurgery().apply(parameters, (2 * P * parameters["a"]).sum())
    norm = ((3 * P).square().sum() + 32).sqrt()
    assert float((parameters["a"].grad * P).sum()) == pytest.approx(0, abs=1e-5)
    torch.testing.assert_close(parameters["b"].grad, 4 * torch.eye(2) / norm)
