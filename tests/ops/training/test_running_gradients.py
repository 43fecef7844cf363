"""Gradients summed over a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from efface.ops.training.run import Run
from efface.ops.training.running_gradients import RunningGradientSum


def train(folder: Path | None, interrupt_at: int | None = None, resume: bool = False) -> list[float]:
    """Six steps of gradient descent with rate 1 on a loss with gradient 1, 2, ..., 6."""
    run, weight = Run(folder=folder, checkpoint_every=2, key="abc", resume=resume), torch.zeros(1, requires_grad=True)
    gradients = RunningGradientSum({"weight": weight})
    for step in run.steps(6, {"weight": weight}, torch.optim.SGD([weight], 1.0), extra_state={"gradients": gradients}):
        if step.index == interrupt_at:
            raise KeyboardInterrupt
        step.backward((step.index + 1) * weight.sum())
        gradients.accumulate()
        step.update()
    return weight.tolist()


def test_every_step_uses_the_sum_of_all_gradients() -> None:
    assert train(None) == [-(1 + 3 + 6 + 10 + 15 + 21)]


def test_an_interrupted_run_resumes_with_its_sum(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, interrupt_at=4)
    assert train(tmp_path, resume=True) == train(None)
