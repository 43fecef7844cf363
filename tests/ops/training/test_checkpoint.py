"""Checkpoints: a killed and resumed run gives the same bytes as an uninterrupted one."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
import torch
from helpers import processes

from efface.core.errors import CorruptArtifactError, EffaceError
from efface.ops.training import checkpoint
from efface.ops.training.run import Run

STEPS = 40


class Counter:
    """An object with a state besides the parameters, like a refreshed pool."""

    def __init__(self):
        self.value = torch.zeros(())

    def state(self):
        return {"value": self.value.clone()}

    def load_state(self, state):
        self.value = state["value"]


def problem():
    gen = torch.Generator().manual_seed(0)
    return {"weight": torch.randn(6, 4, generator=gen).requires_grad_(), "bias": torch.zeros(6, requires_grad=True)}


def train(
    folder: Path | None,
    resume: bool = False,
    pause: float = 0.0,
    every: int = 5,
    key: str = "abc",
    stop: int | None = None,
) -> bytes:
    """Runs two loops with AdamW, generator data and an object with state; returns the final bytes."""
    run = Run(seed=3, folder=folder, resume=resume, checkpoint_every=every, key=key)
    parameters, counter = problem(), Counter()
    for phase, rate in (("warm", 0.05), ("train", 0.01)):
        optimiser = torch.optim.AdamW(parameters.values(), rate)
        for step in run.steps(
            STEPS // 2, parameters, optimiser, max_grad_norm=1.0, phase=phase, extra_state={"counter": counter}
        ):
            x = torch.randn(8, 4, generator=run.generator("data"))
            counter.value = counter.value + x.mean()
            loss = (torch.tanh(x @ parameters["weight"].T + parameters["bias"]) - counter.value).pow(2).mean()
            step.optimize(loss, parts={"count": counter.value})
            time.sleep(pause)
            if stop == step.index and phase == "train":
                return b""
    history = str([run.history[phase] for phase in ("warm", "train")]).encode()
    return history + b"".join(p.detach().numpy().tobytes() for p in [*parameters.values(), counter.value])


@pytest.fixture(scope="module")
def uninterrupted() -> bytes:
    return train(None)


def test_checkpoints_do_not_change_the_result(uninterrupted, tmp_path):
    assert train(tmp_path / "c") == uninterrupted
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["train-00000020", "warm-00000020"]
    assert train(tmp_path / "c", resume=True) == uninterrupted


@pytest.mark.parametrize("stop", [0, 7, 19])
@pytest.mark.parametrize("every", [1, 5])
def test_a_stopped_run_resumes_to_the_same_bytes(uninterrupted, tmp_path, stop, every):
    train(tmp_path, stop=stop, every=every)
    assert train(tmp_path, resume=True) == uninterrupted


@pytest.mark.parametrize("number", range(2))
def test_a_killed_run_resumes_to_the_same_bytes(uninterrupted, tmp_path, number):
    process = processes.start(train, tmp_path, False, 0.05, 1)
    try:
        deadline = time.time() + 120
        while not list(tmp_path.glob("*-0*")) and time.time() < deadline and process.is_alive():
            time.sleep(0.01)
        time.sleep(random.Random(number).uniform(0, 1.2))
    finally:
        process.kill()
        process.join()
    assert process.exitcode == -signal.SIGKILL, "the run ended before it could be killed"
    assert checkpoint.list_checkpoints(tmp_path, "warm")
    assert train(tmp_path, resume=True) == uninterrupted
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_no_pickle_is_written(tmp_path):
    train(tmp_path)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"state.json", "state.safetensors"}


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    train(tmp_path, stop=3, every=1)
    with pytest.raises(EffaceError, match="another run") as caught:
        train(tmp_path, resume=True, key="xyz")
    assert "\n" not in str(caught.value)
    run = Run(folder=tmp_path, resume=True, key="abc")
    other = {"weight": torch.zeros(2, requires_grad=True)}
    with pytest.raises(EffaceError, match="other tensors"):
        next(run.steps(STEPS // 2, other, torch.optim.Adam(other.values()), phase="warm"))


def test_without_resume_a_run_starts_from_the_first_step(uninterrupted, tmp_path):
    train(tmp_path, stop=3, every=1, key="old")
    assert train(tmp_path) == uninterrupted
    (tmp_path / "kept.txt").write_text("")
    train(tmp_path, stop=0, every=99)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["kept.txt", "warm-00000020"]


def test_a_damaged_checkpoint_is_refused(tmp_path):
    train(tmp_path)
    path = tmp_path / "train-00000020" / "state.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptArtifactError, match="was changed"):
        train(tmp_path, resume=True)


def test_tuples_of_the_optimiser_survive_json(tmp_path):
    weight = torch.ones(1, requires_grad=True)
    optimiser = torch.optim.Adam([weight], 1e-3, betas=(0.5, 0.75))
    weight.sum().backward()
    optimiser.step()
    tensors, content = checkpoint.pack_optimiser(optimiser)
    checkpoint.save(tmp_path, "a", 1, tensors, content)
    other = torch.optim.Adam([torch.ones(1, requires_grad=True)], 1.0)
    checkpoint.unpack_optimiser(other, *checkpoint.load(tmp_path / "a-00000001"))
    assert other.param_groups[0]["betas"] == (0.5, 0.75)
    groups, state = (other.state_dict()[key] for key in ("param_groups", "state"))
    assert groups == optimiser.state_dict()["param_groups"]
    assert state == optimiser.state_dict()["state"]


def test_a_record_before_the_first_loop_does_not_keep_outdated_checkpoints(tmp_path: Path) -> None:
    for _ in range(2):
        run = Run(seed=3, folder=tmp_path, checkpoint_every=1, key="abc")
        run.record("solve", {"residual": 0.1})
        weight = torch.zeros(2, requires_grad=True)
        done = 0
        for step in run.steps(4, {"weight": weight}, torch.optim.SGD([weight], 0.1)):
            step.optimize((weight - 1).square().sum())
            done += 1
        assert done == 4
