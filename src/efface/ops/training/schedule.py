"""Learning rates over the steps of a run, and the sampling density of timesteps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from efface.core.errors import EffaceError, UnknownNameError

SCHEDULES = ("constant", "cosine", "restarts")
RESTARTS, WARMUP = 3, 1 / 6
"""Number of cosines of the schedule ``restarts``, and the share of its steps before them (SPM, arXiv 2312.16145)."""


def set_learning_rate(
    optimiser: torch.optim.Optimizer, peak: float, schedule: str, step: int, total_steps: int
) -> None:
    """Sets the learning rate of one step: ``peak`` throughout, or half a cosine down to 0 (arXiv 1608.03983).

    ``restarts`` rises linearly for a sixth of the steps, then falls by three half cosines from the peak.

    The rate depends on the step alone. The schedulers of diffusers and torch count their own calls instead and would
    have to be saved in every checkpoint for an exact resume.

    Args:
        optimiser: optimiser whose rate is set.
        peak: learning rate of the first step.
        schedule: one of `SCHEDULES`.
        step: index of the step, from 0.
        total_steps: number of steps.

    Raises:
        UnknownNameError: an unknown schedule.
    """
    if schedule not in SCHEDULES:
        raise UnknownNameError("schedule", schedule, SCHEDULES)
    for group in optimiser.param_groups:
        group["lr"] = peak * _factor(schedule, step / total_steps)


def _factor(schedule: str, done: float) -> float:
    """Returns the share of the peak after this share of the steps."""
    if schedule == "restarts":
        if done < WARMUP:
            return done / WARMUP
        done = (done - WARMUP) / (1 - WARMUP) * RESTARTS % 1.0
    return 1.0 if schedule == "constant" else 0.5 * (1 + math.cos(math.pi * done))


def concept_timestep_density(
    num_timesteps: int, slope: float = 0.05, low: float = 200.0, high: float = 400.0
) -> Tensor:
    """Probability of each timestep, highest where a concept takes shape (MACE, arXiv 2403.06135): ``(num_timesteps,)``.

    p(t) ~ sigmoid(slope (t - low)) - sigmoid(slope (t - high)), for t of 1000; other numbers of timesteps are rescaled.

    Args:
        num_timesteps: number of timesteps of the model.
        slope: steepness of both flanks.
        low: timestep of the rising flank.
        high: timestep of the falling flank.

    Raises:
        EffaceError: ``high`` is not above ``low``, or the slope is not above 0.
    """
    if not low < high or slope <= 0:
        raise EffaceError(
            f"no timesteps from {low} to {high}, slope {slope}: the second must be above the first, the slope above 0"
        )
    t = torch.arange(num_timesteps, dtype=torch.float64) * (1000 / num_timesteps)
    density = torch.sigmoid(slope * (t - low)) - torch.sigmoid(slope * (t - high))
    return density / density.sum()
