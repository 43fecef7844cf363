"""Learning-rate schedules and the density of timesteps."""

from __future__ import annotations

import pytest
import torch

from efface.core.errors import UnknownNameError
from efface.ops.training.schedule import set_learning_rate


def test_the_rate_follows_the_schedule() -> None:
    optimiser = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1.0)
    rates = []
    for index in (0, 50, 99):
        set_learning_rate(optimiser, 0.1, "cosine", index, 100)
        rates.append(optimiser.param_groups[0]["lr"])
    assert rates[:2] == pytest.approx([0.1, 0.05])
    assert 0 < rates[2] < 1e-4
    set_learning_rate(optimiser, 0.1, "constant", 99, 100)
    assert optimiser.param_groups[0]["lr"] == 0.1
    with pytest.raises(UnknownNameError, match="did you mean 'cosine'"):
        set_learning_rate(optimiser, 0.1, "cosin", 0, 100)
