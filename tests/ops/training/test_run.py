"""A run: its steps, the errors for non-finite numbers, and the progress bar."""

from __future__ import annotations

import io
import math

import pytest
import torch
from rich.console import Console

from efface.core.errors import EffaceError
from efface.ops.training import checkpoint
from efface.ops.training.progress import RichProgress
from efface.ops.training.run import Run


@pytest.mark.parametrize("place", ["loss", "gradient", "part", "parameter"])
def test_nan_names_the_step_and_keeps_the_last_good_checkpoint(tmp_path, place):
    weight, run = torch.ones(3, requires_grad=True), Run(folder=tmp_path, checkpoint_every=2)

    def train():
        for step in run.steps(9, {"weight": weight}, torch.optim.SGD([weight], 0.1)):
            bad = step.index == 4
            loss = weight.sum() * (math.nan if bad and place == "loss" else 1.0)
            if bad and place == "gradient":
                loss = loss + 0 * weight.sub(weight.detach()).sqrt().sum()
            step.optimize(loss, parts={"erase": math.inf if bad and place == "part" else 1.0})
            if place == "parameter" and step.index == 5:
                weight.data[0] = math.inf

    with pytest.raises(EffaceError, match=rf"not finite at step {5 if place == 'parameter' else 4} of 9") as caught:
        train()
    assert "\n" not in str(caught.value)
    assert "train-00000004" in str(caught.value)
    if place != "parameter":
        torch.testing.assert_close(weight.detach(), torch.full((3,), 0.6))
        assert [entry["step"] for entry in run.history["train"]] == [0, 1, 2, 3]
    tensors, _ = checkpoint.load(checkpoint.list_checkpoints(tmp_path, "train")[-1])
    torch.testing.assert_close(tensors["parameters/weight"], torch.full((3,), 0.6))


def test_nan_before_any_checkpoint():
    weight = torch.ones(1, requires_grad=True)
    step = next(Run().steps(2, {"weight": weight}, torch.optim.SGD([weight], 0.1)))
    with pytest.raises(EffaceError, match="there is no checkpoint"):
        step.optimize((weight * math.nan).sum())


def test_a_step_by_hand():
    weight, other = torch.tensor([3.0, 4.0], requires_grad=True), torch.ones(2, requires_grad=True)
    run = Run()
    for step in run.steps(1, {"weight": weight}, torch.optim.SGD([weight], 0.5), max_grad_norm=1.0):
        step.optimize((weight.pow(2) / 2 * other).sum(), parts={"a": torch.tensor(2.0)})
    # the gradient (3, 4) has norm 5 and is clipped to norm 1
    torch.testing.assert_close(weight.detach(), torch.tensor([3.0 - 0.3, 4.0 - 0.4]), rtol=1e-5, atol=1e-5)
    assert other.grad is None
    assert weight.grad is None
    assert run.history == {"train": [{"step": 0, "loss": 12.5, "a": 2.0, "grad_norm": 5.0}]}


def test_gradients_can_be_changed_between_backward_and_update():
    weight = torch.tensor([1.0, 1.0], requires_grad=True)
    for step in Run().steps(1, {"weight": weight}, torch.optim.SGD([weight], 1.0)):
        step.backward(weight.sum())
        weight.grad[0] = 0
        step.update()
    assert weight.tolist() == [1.0, 0.0]


def test_generators_are_seeded_by_name():
    a, b = Run(seed=1), Run(seed=1)
    assert a.generator("x") is a.generator("x")
    draw = torch.rand(3, generator=a.generator("x"))
    assert torch.equal(draw, torch.rand(3, generator=b.generator("x")))
    assert not torch.equal(draw, torch.rand(3, generator=b.generator("y")))
    assert not torch.equal(draw, torch.rand(3, generator=Run(seed=2).generator("x")))


def test_a_phase_name_cannot_be_used_twice():
    weight = torch.ones(1, requires_grad=True)
    run = Run()
    list(run.steps(1, {"w": weight}, torch.optim.SGD([weight], 0.1)))
    with pytest.raises(ValueError, match="name of its own"):
        next(run.steps(1, {"w": weight}, torch.optim.SGD([weight], 0.1)))


def test_the_bar_shows_the_losses():
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=140)
    weight = torch.ones(1, requires_grad=True)
    for step in Run(progress=RichProgress(console)).steps(
        3, {"w": weight}, torch.optim.SGD([weight], 0.5), phase="erase"
    ):
        step.optimize(weight.sum(), parts={"retain": 0.125})
    assert "erase" in text.getvalue()
    assert "3/3" in text.getvalue()
    assert "retain 0.125" in text.getvalue()
