"""The folder of a sweep: erasures, cells, failed attempts, and the lock that keeps a second sweep out.

    erasures/<run>/     one erasure, shared by its cells
    searches/<hash>/    an attack set that is the same for every erasure, shared by its cells
    cells/<cell>/       cell.json, result.json, cost.json, and evidence/ with images or the attack set
    attempts/<job>.json how often a job was started without an end, and its errors
    results/            the results of each method in one compact file

A cell's folder is complete or absent. ``result.json`` holds nothing that a second run would measure differently;
durations are in ``cost.json``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efface.core.errors import EffaceError
from efface.core.io import atomic_write_json, read_json
from efface.core.manifest import MANIFEST
from efface.core.spec import RunSpec

from .sweep_cell import Cell

RESULT, COST, CELL, EVIDENCE = "result.json", "cost.json", "cell.json", "evidence"


@dataclass(frozen=True)
class SweepFolder:
    """The folder of a sweep."""

    path: Path

    def erasure(self, run: RunSpec) -> Path:
        """Returns the folder of an erasure."""
        return self.path / "erasures" / run.folder_name

    def search(self, name: str) -> Path:
        """Returns the folder of an attack set that cells share."""
        return self.path / "searches" / name

    def cell(self, cell: Cell) -> Path:
        """Returns the folder of a cell."""
        return self.path / "cells" / cell.folder_name

    @property
    def results(self) -> Path:
        """The folder of the compact results."""
        return self.path / "results"

    def has_erasure(self, run: RunSpec) -> bool:
        """Returns whether an erasure is complete."""
        return (self.erasure(run) / MANIFEST).is_file()

    def has_cell(self, cell: Cell) -> bool:
        """Returns whether a cell is complete."""
        return (self.cell(cell) / RESULT).is_file()

    def seconds(self, cell: Cell) -> float:
        """Returns the duration of a complete cell in seconds."""
        cost: Any = read_json(self.cell(cell) / COST)
        return float(cost["seconds"])

    def attempts(self, job: str) -> dict[str, Any]:
        """Returns how often a job was started without an end, and its errors."""
        path = self._attempts(job)
        data: Any = read_json(path) if path.is_file() else {}
        return {"started": int(data.get("started", 0)), "errors": list(data.get("errors", ()))}

    def begin(self, job: str) -> None:
        """Notes the start of a job."""
        attempts = self.attempts(job)
        atomic_write_json(self._attempts(job), {**attempts, "started": attempts["started"] + 1})

    def end(self, job: str, error: str = "") -> None:
        """Notes the end of a job; a job without an error leaves no note."""
        if not error:
            self._attempts(job).unlink(missing_ok=True)
            return
        errors = [*self.attempts(job)["errors"], error][-5:]
        atomic_write_json(self._attempts(job), {"started": 0, "errors": errors})

    def _attempts(self, job: str) -> Path:
        return self.path / "attempts" / f"{job}.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder's lock for the body of the ``with``; the system releases it when the process ends.

        Raises:
            EffaceError: another sweep holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT)
        try:
            with suppress(ImportError):  # Windows
                import fcntl

                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    raise EffaceError(
                        f"another sweep writes to {self.path}: wait for its end, or choose another --out"
                    ) from error
            yield
        finally:
            os.close(handle)
