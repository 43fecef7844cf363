"""Learning-rate schedules and the density of timesteps."""

from __future__ import annotations

import pytest
import torch

from efface.core.errors import EffaceError, UnknownNameError
from efface.ops.training.schedule import concept_timestep_density, set_learning_rate


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


@pytest.mark.parametrize("timesteps", [1000, 500, 100])
def test_concept_timesteps_concentrate_between_200_and_400_of_1000(timesteps: int) -> None:
    density = concept_timestep_density(timesteps)
    t = torch.arange(timesteps, dtype=torch.float64) * 1000 / timesteps
    expected = 1 / (1 + torch.exp(-0.05 * (t - 200))) - 1 / (1 + torch.exp(-0.05 * (t - 400)))
    torch.testing.assert_close(density, expected / expected.sum(), rtol=1e-9, atol=1e-15)
    assert float(density[(t >= 200) & (t <= 400)].sum()) > 0.85
    assert abs(float((density * t).sum()) - 300) < 6
    with pytest.raises(EffaceError, match="the second must be above the first"):
        concept_timestep_density(timesteps, low=400, high=200)
