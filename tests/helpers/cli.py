"""The command line in this process, without the seconds that a process of its own takes to import torch."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from efface.cli import main

from .tiny import tiny_model

QUICK = ("--set", "steps=6", "--set", "runs=1", "--set", "sampler_steps=2", "--set", "lr=0.1")
"""An erasure of a tiny model in half a second, with a change that can be seen."""


@dataclass
class Said:
    """What a command said."""

    code: int
    out: str
    err: str


def call(capfd, *args) -> Said:
    """Runs ``efface`` with these arguments; whatever is no ``SystemExit`` goes on, as a traceback would."""
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
    return Said(code, *capfd.readouterr())


def tiny_folder(path: Path, seed: int = 0) -> Path:
    """A tiny model in diffusers layout."""
    tiny_model(seed).pipe.save_pretrained(path)
    return path


def content(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, hidden files too: bytes of files, None for folders."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
    }


def check_refused(said: Said, *words: str, early: bool = True) -> None:
    """One line on standard error that begins with ``error:`` and holds the words; ``early``: and nothing before it, such as a bar."""
    lines = said.err.strip().splitlines()
    assert said.code == 2, said
    assert lines[-1].startswith("error: "), said
    assert "Traceback" not in said.err
    assert sum("error:" in line for line in lines) == 1, said
    assert not early or len(lines) == 1, said
    for word in words:
        assert word in lines[-1], said
