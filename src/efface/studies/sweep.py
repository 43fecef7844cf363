"""A sweep: every method on every benchmark's concept under every attack, with the same judge.

A sweep continues where it was stopped, even by SIGKILL: complete erasures and cells are never made again, and an
incomplete one leaves nothing that counts. A job that raises or runs out of memory is tried again after all others;
its error is reported and the grid goes on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .sweep_cell import Cell
from .sweep_folder import SweepFolder
from .sweep_grid import Grid
from .sweep_jobs import Job, Outcome
from .sweep_results import write_results
from .sweep_schedule import Schedule
from .sweep_workers import ThisProcess, WorkerFactory, Workers


@dataclass(frozen=True)
class Step:
    """The end of one job, for the display.

    Attributes:
        job: the job.
        outcome: its duration and error.
        complete: number of complete cells.
        total: number of all cells.
        seconds_left: estimate for the rest of the grid; None if unknown.
    """

    job: Job
    outcome: Outcome
    complete: int
    total: int
    seconds_left: float | None


@dataclass
class SweepReport:
    """The end of a sweep.

    Attributes:
        folder: the sweep's folder.
        total: number of cells.
        complete: number of complete cells.
        failed: error by the title of each cell that failed.
    """

    folder: Path
    total: int
    complete: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def sweep(
    grid: Grid, out: Path, *, workers: WorkerFactory = ThisProcess, retries: int = 1, minutes: float | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> SweepReport:  # fmt: skip
    """Measures every cell of a grid that is not complete.

    Args:
        grid: the grid.
        out: folder of the sweep.
        workers: builds the workers; this process by default.
        retries: how often a failed job is tried again at the end.
        minutes: no job starts later than this many minutes after the first; None for no limit.
        on_step: called after each job.

    Returns:
        Numbers of cells, and the errors of those that failed.

    Raises:
        EffaceError: another sweep writes to the folder, or the workers cannot be reached.
    """
    folder, cells = SweepFolder(out), grid.cells()
    with folder.locked():
        pool = workers(out)
        try:
            return _Run(folder, cells, pool, retries, on_step or (lambda step: None)).run(minutes)
        finally:
            pool.close()


class _Run:
    """One invocation of a sweep."""

    def __init__(
        self, folder: SweepFolder, cells: Sequence[Cell], workers: Workers, retries: int,
        on_step: Callable[[Step], None],
    ) -> None:  # fmt: skip
        self._folder, self._cells, self._workers = folder, cells, workers
        self._retries, self._on_step = retries, on_step
        self._schedule = Schedule(cells, folder)
        self._failures: dict[str, int] = {}
        self._active: dict[str, Job] = {}
        complete = sum(map(folder.has_cell, cells))
        self.report = SweepReport(folder.path, len(cells), complete)

    def run(self, minutes: float | None) -> SweepReport:
        """Runs jobs until none is left or the time is over."""
        end = math.inf if minutes is None else time.monotonic() + 60 * minutes
        while True:
            while len(self._active) < self._workers.capacity and time.monotonic() < end:
                job = self._schedule.pop()
                if job is None:
                    break
                self._folder.begin(job.name)
                self._active[job.name] = job
                self._workers.submit(job)
            if not self._active:
                break
            job, outcome = self._workers.wait()
            del self._active[job.name]
            self._finish(job, outcome)
        write_results(self._folder, self._cells)
        return self.report

    def _finish(self, job: Job, outcome: Outcome) -> None:
        self._folder.end(job.name, outcome.error)
        if outcome.error:
            self._fail(job, outcome)
        else:
            self._schedule.durations.add(job, outcome.seconds)
            if job.makes_erasure:
                self._schedule.release(job)
            else:
                self.report.complete += 1
                self._write_if_complete(job.cell)
        rest = [*self._schedule.remaining(), *self._active.values()]
        left = self._schedule.durations.estimate(rest, self._workers.capacity)
        self._on_step(Step(job, outcome, self.report.complete, self.report.total, left))

    def _fail(self, job: Job, outcome: Outcome) -> None:
        self._failures[job.name] = self._failures.get(job.name, 0) + 1
        if self._failures[job.name] <= self._retries:
            self._schedule.retry(job)
            return
        for cell in self._schedule.give_up(job):
            self.report.failed[cell.title] = outcome.error

    def _write_if_complete(self, cell: Cell) -> None:
        """Writes the compact results of a method after the last cell of each of its erasures."""
        own = [other for other in self._cells if other.run.hash == cell.run.hash]
        if all(map(self._folder.has_cell, own)):
            write_results(self._folder, [other for other in self._cells if other.method == cell.method])
