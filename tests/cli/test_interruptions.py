"""Ctrl-C and kills: a run resumes to the same bytes, and an old erasure stays complete."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.cli import call, check_refused, content

pytestmark = pytest.mark.usefixtures("one_thread")  # as the processes below, so that bytes are equal
STEPS = 250
CONFIG = {"steps": STEPS, "trajectories_per_prompt": 1, "num_inference_steps": 2, "learning_rate": 0.01}
LONG_RUN = tuple(word for name, value in CONFIG.items() for word in ("--set", f"{name}={value}"))


def start(model_folder: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    """Starts ``efface erase`` in a process of its own, which handles Ctrl-C even if this process ignores it."""
    command = [sys.executable, "-m", "efface", "erase", "gun", "--out", str(out), "--model", str(model_folder)]
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [*command, *LONG_RUN, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    finally:
        signal.signal(signal.SIGINT, handler)


def steps_done(out: Path) -> int:
    """Number of steps in the newest checkpoint of a run that writes to `out`."""
    return max((int(path.name[-8:]) for path in out.parent.glob(f".{out.name}.run/train-*")), default=0)


def stop_after(process: subprocess.Popen[str], out: Path, steps: int, signal_number: int) -> tuple[str, str]:
    """Sends a signal as soon as a checkpoint holds more than `steps` steps; returns what the process printed."""
    deadline = time.monotonic() + 300
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if steps_done(out) > steps:
                break
            time.sleep(0.005)
        assert process.poll() is None, f"it ended before the signal: {process.communicate()}"
        process.send_signal(signal_number)
        return process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()


def test_an_interrupted_and_killed_run_resumes_to_the_same_bytes(capfd, tmp_path, model_folder, monkeypatch):
    """Ctrl-C, then SIGKILL while resuming, then resumed to the end, beside an undisturbed run."""
    undisturbed, out = start(model_folder, tmp_path / "undisturbed", "--json"), tmp_path / "e"
    erase = ("erase", "gun", "--out", out, "--model", model_folder, *LONG_RUN, "--resume")
    try:
        process = start(model_folder, out)
        printed, errors = stop_after(process, out, 0, signal.SIGINT)
        assert process.returncode == 130
        assert (printed, errors.strip().splitlines()[-1]) == ("", "interrupted")
        assert "Traceback" not in errors
        assert not out.exists()
        first = steps_done(out)
        assert 0 < first < STEPS

        check_refused(call(capfd, *erase, "--seed", "1"), "a checkpoint of another run", early=False)
        assert steps_done(out) == first

        process = start(model_folder, out, "--resume")
        stop_after(process, out, first, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert not out.exists()

        starts, second = [], steps_done(out)
        monkeypatch.setattr("efface.ops.training.progress.RichProgress.start", lambda _, *args: starts.append(args))
        assert call(capfd, *erase).code == 0
        assert starts == [("train", STEPS, second)], "it continued from the checkpoint"
        printed, _ = undisturbed.communicate(timeout=300)
    finally:
        undisturbed.kill()
        undisturbed.wait()
    assert undisturbed.returncode == 0
    assert json.loads(printed)["folder"] == str(tmp_path / "undisturbed")
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
    assert (output.code, output.out, output.err.strip().splitlines()[-1]) == (130, "", "interrupted")
    assert content(tmp_path) == before
