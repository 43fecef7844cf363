"""Ctrl-C and kills: a run resumes to the same bytes, and an old erasure stays complete."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from helpers import processes
from helpers.cli import call, check_refused, content

pytestmark = pytest.mark.usefixtures("one_thread")  # as the processes below, so that bytes are equal
STEPS = 200
NOTHING_KEPT = "interrupted: nothing was saved yet"
CONFIG = {"steps": STEPS, "trajectories_per_prompt": 1, "num_inference_steps": 2, "learning_rate": 0.01}
LONG_RUN = tuple(word for name, value in CONFIG.items() for word in ("--set", f"{name}={value}"))


class EraseProcess:
    """``efface erase`` in a process of its own, with its output in files."""

    def __init__(self, model_folder: Path, out: Path, output: Path, *options: str) -> None:
        command = ("erase", "gun", "--out", out, "--model", model_folder, *LONG_RUN, *options)
        self.out, self.output = out, output
        self.process = processes.start(processes.run_command, command, output, {})

    @property
    def printed(self) -> str:
        return Path(f"{self.output}.out").read_text()

    @property
    def errors(self) -> str:
        return Path(f"{self.output}.err").read_text()


def steps_done(out: Path) -> int:
    """Number of steps in the newest checkpoint of a run that writes to `out`."""
    return max((int(path.name[-8:]) for path in out.parent.glob(f".{out.name}.run/train-*")), default=0)


def stop_after(erase: EraseProcess, steps: int, signal_number: int) -> int | None:
    """Sends a signal as soon as a checkpoint holds more than `steps` steps; returns the exit code."""
    process, deadline = erase.process, time.monotonic() + 300
    try:
        while process.is_alive() and time.monotonic() < deadline:
            if steps_done(erase.out) > steps:
                break
            time.sleep(0.005)
        assert process.is_alive(), f"it ended before the signal: {erase.errors}"
        os.kill(process.pid, signal_number)
        process.join(60)
        return process.exitcode
    finally:
        process.kill()
        process.join()


def test_an_interrupted_and_killed_run_resumes_to_the_same_bytes(
    capfd, tmp_path, tmp_path_factory, model_folder, monkeypatch
):
    """Ctrl-C, then SIGKILL while resuming, then resumed to the end, beside an undisturbed run."""
    outputs, out = tmp_path_factory.mktemp("outputs"), tmp_path / "e"
    undisturbed = EraseProcess(model_folder, tmp_path / "undisturbed", outputs / "undisturbed", "--json")
    erase = ("erase", "gun", "--out", out, "--model", model_folder, *LONG_RUN, "--resume")
    try:
        interrupted = EraseProcess(model_folder, out, outputs / "interrupted")
        assert (stop_after(interrupted, 0, signal.SIGINT), interrupted.printed) == (130, "")
        kept, command = interrupted.errors.strip().splitlines()[-2:]
        assert kept == "interrupted: the last checkpoint is kept; continue with"
        assert command.split()[:3] == ["efface", "erase", "gun"]
        assert command.endswith("--resume")
        assert "Traceback" not in interrupted.errors
        assert not out.exists()
        first = steps_done(out)
        assert 0 < first < STEPS

        check_refused(call(capfd, *erase, "--seed", "1"), "a checkpoint of another run", early=False)
        assert steps_done(out) == first

        killed = EraseProcess(model_folder, out, outputs / "killed", "--resume")
        assert stop_after(killed, first, signal.SIGKILL) == -signal.SIGKILL
        assert not out.exists()

        starts, second = [], steps_done(out)
        monkeypatch.setattr("efface.ops.training.progress.LineProgress.start", lambda _, *args: starts.append(args))
        assert call(capfd, *erase).code == 0
        assert starts == [("train", STEPS, second)], "it continued from the checkpoint"
        undisturbed.process.join(300)
    finally:
        undisturbed.process.kill()
        undisturbed.process.join()
    assert undisturbed.process.exitcode == 0
    assert json.loads(undisturbed.printed)["folder"] == str(tmp_path / "undisturbed")
    for name in ("weights.safetensors", "history.json"):
        assert (out / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
    assert call(capfd, "verify", out).code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e", "undisturbed"]


def test_ctrl_c_while_saving_leaves_the_old_erasure(capfd, tmp_path, model_folder, erasure_folder, monkeypatch):
    shutil.copytree(erasure_folder, tmp_path / "e")
    before = content(tmp_path)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("efface.core.erasure.write_manifest", stop)
    options = ("--model", model_folder, "--method", "negative_prompt", "--overwrite")
    output = call(capfd, "erase", "gun", "--out", tmp_path / "e", *options)
    assert (output.code, output.out, output.err.strip().splitlines()[-1]) == (130, "", NOTHING_KEPT)
    assert content(tmp_path) == before
