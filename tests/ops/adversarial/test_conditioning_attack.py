"""Attack on the text's states: its steps, its bounds and its settings."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from efface.core.errors import EffaceError
from efface.models.protocol import Conditioning
from efface.ops.adversarial.conditioning_attack import ConditioningAttack

COND = Conditioning(torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 4))
GOAL = torch.tensor([5.0, -5.0]).view(2, 1, 1)
"""States outside of both bounds: the first prompt's attack goes up, the second's down."""


def distance(cond: Conditioning) -> Tensor:
    return (cond.states - GOAL).square().sum()


def search(num_steps: int, radius: float = 0.1) -> Tensor:
    attack = ConditioningAttack(radius, num_steps)
    return attack.search(distance, COND, torch.Generator().manual_seed(1)).states


def test_a_step_is_a_quarter_of_the_radius_from_the_random_start() -> None:
    start = 0.1 * (2 * torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(1)) - 1)
    low = torch.maximum(COND.states - 0.1, COND.states.amin((1, 2), keepdim=True))
    high = torch.minimum(COND.states + 0.1, COND.states.amax((1, 2), keepdim=True))
    expected = ((COND.states + start).clamp(low, high) + 0.025 * GOAL.sign()).clamp(low, high)
    torch.testing.assert_close(search(1), expected)


def test_many_steps_reach_the_bounds_and_no_more() -> None:
    found = search(10)
    torch.testing.assert_close(found[0], (COND.states[0] + 0.1).clamp(max=float(COND.states[0].max())))
    torch.testing.assert_close(found[1], (COND.states[1] - 0.1).clamp(min=float(COND.states[1].min())))
    assert not found.requires_grad
    assert COND.states.grad is None


@pytest.mark.parametrize(("radius", "num_steps"), [(0.0, 10), (-1.0, 10), (0.1, 0)])
def test_an_attack_that_changes_nothing_is_an_error(radius: float, num_steps: int) -> None:
    with pytest.raises(EffaceError, match="set a radius above 0 and 1 step or more"):
        ConditioningAttack(radius, num_steps)
