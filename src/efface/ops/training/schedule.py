"""Learning rates over the steps of a run, and which timesteps are trained."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from efface.core.errors import EffaceError, UnknownNameError

SCHEDULES = ("constant", "cosine")


def set_learning_rate(optimiser: torch.optim.Optimizer, peak: float, schedule: str, index: int, steps: int) -> None:
    """Sets the rate of step ``index`` of ``steps``: ``peak`` throughout, or falling to 0 as half a cosine (arXiv 1608.03983).

    A function of the step alone, so that a run that is resumed goes on as it would have.

    Raises:
        UnknownName: another schedule.
    """
    if schedule not in SCHEDULES:
        raise UnknownNameError("schedule", schedule, SCHEDULES)
    share = 0.5 * (1 + math.cos(math.pi * index / steps)) if schedule == "cosine" else 1.0
    for group in optimiser.param_groups:
        group["lr"] = peak * share


def concept_timestep_density(timesteps: int, gamma: float = 0.05, low: float = 200.0, high: float = 400.0) -> Tensor:
    """How often each timestep is drawn when training is to see a concept take shape (MACE, arXiv 2403.06135): ``(timesteps,)``, sum 1.

    p(t) ~ sigmoid(gamma (t - low)) - sigmoid(gamma (t - high)), t of 1000; another number of timesteps is stretched to it.

    Raises:
        EffaceError: the second bound is not above the first, or a slope that is not above 0.
    """
    if not low < high or gamma <= 0:
        raise EffaceError(
            f"no timesteps from {low} to {high}, slope {gamma}: the second must be above the first, the slope above 0"
        )
    t = torch.arange(timesteps, dtype=torch.float64) * (1000 / timesteps)
    density = torch.sigmoid(gamma * (t - low)) - torch.sigmoid(gamma * (t - high))
    return density / density.sum()
