"""Learning rates over the steps of a run."""

from __future__ import annotations

import math

import torch

from efface.core.errors import UnknownName

SCHEDULES = ("constant", "cosine")


def learning_rate(optimiser: torch.optim.Optimizer, peak: float, schedule: str, index: int, steps: int) -> None:
    """Sets the rate of step ``index`` of ``steps``: ``peak`` throughout, or falling to 0 as half a cosine (arXiv 1608.03983).

    A function of the step alone, so that a run that is resumed goes on as it would have.

    Raises:
        UnknownName: another schedule.
    """
    if schedule not in SCHEDULES:
        raise UnknownName("schedule", schedule, SCHEDULES)
    share = 0.5 * (1 + math.cos(math.pi * index / steps)) if schedule == "cosine" else 1.0
    for group in optimiser.param_groups:
        group["lr"] = peak * share
