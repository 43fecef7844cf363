"""Runs the command line in this process, which saves the seconds that a new process takes to import torch."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from efface.cli import main

from .tiny import tiny_model

QUICK_CONFIG = {"steps": 6, "trajectories_per_prompt": 1, "num_inference_steps": 2, "learning_rate": 0.1}
"""Settings of ESD that change a tiny model visibly in half a second."""
QUICK = tuple(word for name, value in QUICK_CONFIG.items() for word in ("--set", f"{name}={value}"))
"""The same settings as options of the command line."""
MISMATCH = ("--allow-benchmark-mismatch",)
"""Option that accepts a benchmark of pocket for an erasure of a tiny model."""


@dataclass
class CommandOutput:
    """Exit code, standard output and standard error of a command."""

    code: int
    out: str
    err: str


def call(capfd, *args) -> CommandOutput:
    """Runs ``efface`` with these arguments; every exception but ``SystemExit`` is raised."""
    capfd.readouterr()
    code = 0
    with (
        mock.patch.object(sys, "argv", ["efface", *map(str, args)]),
        mock.patch.object(warnings, "showwarning", warnings.showwarning),
    ):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return CommandOutput(code, *capfd.readouterr())


def tiny_folder(path: Path, seed: int = 0) -> Path:
    """Saves a tiny model in diffusers layout."""
    tiny_model(seed).pipe.save_pretrained(path)
    return path


def content(folder: Path) -> dict[str, bytes | None]:
    """Reads everything below a folder, hidden files included: bytes of files, None for folders."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
    }


def check_refused(output: CommandOutput, *words: str, early: bool = True) -> None:
    """Checks that a command failed with one line on standard error that starts with ``error:`` and holds the words.

    With `early`, nothing else may be on standard error, such as a progress bar.
    """
    lines = output.err.strip().splitlines()
    assert output.code == 2, output
    assert lines[-1].startswith("error: "), output
    assert "Traceback" not in output.err
    assert sum("error:" in line for line in lines) == 1, output
    assert not early or len(lines) == 1, output
    for word in words:
        assert word in lines[-1], output


def check_all_commands(
    capfd,
    model: Path,
    artifact: Path,
    *words: str,
    base_only: bool = False,
    early: bool = True,
) -> None:
    """Checks that every command that loads a model refuses this one, and that none writes a file.

    With `base_only`, the model is valid, but not the base of the erasure: only commands with an erasure refuse it.
    """
    folder = model.parent
    before = content(folder)
    without_erasure = (
        ("sample", "a cat", "--steps", 2, "--out", folder / "x.png", "--model", model),
        ("erase", "gun", "--out", folder / "x", "--model", model, *QUICK),
    )
    for command in (
        *(() if base_only else without_erasure),
        ("evaluate", artifact, "--benchmark", "pocket-weapon", *MISMATCH, "--model", model, "--limit", 1),
        ("attack", artifact, "--benchmark", "pocket-weapon", *MISMATCH, "--model", model, "--limit", 1),
        ("compare", artifact, "a cat", "--steps", 2, "--model", model, "--out", folder / "x.html"),
        ("transfer", artifact, "--to", model, "--out", folder / "x"),
        ("export", artifact, "--model", model, "--out", folder / "x"),
    ):
        check_refused(call(capfd, *command), *words, early=early and not base_only)
    assert content(folder) == before
    assert not (artifact / "evidence").exists()
