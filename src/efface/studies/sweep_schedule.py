"""The order of a sweep's jobs, and the time that the rest of them takes."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from statistics import mean

from .sweep_cell import Cell
from .sweep_folder import SweepFolder
from .sweep_jobs import Job


class Schedule:
    """The jobs that remain: an erasure before its cells, in the grid's order.

    A job that was started twice without an end, because the process was killed, comes after all others.

    Args:
        cells: all cells of the grid.
        folder: folder of the sweep.
    """

    def __init__(self, cells: Sequence[Cell], folder: SweepFolder) -> None:
        self._folder = folder
        self._heap: list[tuple[int, int, int, Job]] = []
        self._blocked: dict[str, list[tuple[int, Cell]]] = {}
        self._number = 0
        self.durations = Durations()
        for index, cell in enumerate(cells):
            if folder.has_cell(cell):
                self.durations.add(Job(cell, makes_erasure=False), folder.seconds(cell))
            elif folder.has_erasure(cell.run):
                self._push(index, Job(cell, makes_erasure=False))
            else:
                if cell.run.hash not in self._blocked:
                    self._push(index, Job(cell, makes_erasure=True))
                self._blocked.setdefault(cell.run.hash, []).append((index, cell))

    def pop(self) -> Job | None:
        """Returns the next job; None while there is none that can start."""
        return heapq.heappop(self._heap)[-1] if self._heap else None

    def release(self, job: Job) -> None:
        """Makes the cells of a complete erasure available."""
        for index, cell in self._blocked.pop(job.cell.run.hash, ()):
            self._push(index, Job(cell, makes_erasure=False))

    def give_up(self, job: Job) -> list[Cell]:
        """Removes the cells of an erasure that failed, and returns them; of a cell, the cell itself."""
        return [cell for _, cell in self._blocked.pop(job.cell.run.hash, ())] if job.makes_erasure else [job.cell]

    def retry(self, job: Job) -> None:
        """Puts a job behind all others."""
        self._push(0, job, penalty=1)

    def remaining(self) -> list[Job]:
        """Returns the jobs that have not started, blocked cells included."""
        blocked = [Job(cell, makes_erasure=False) for cells in self._blocked.values() for _, cell in cells]
        return [*(entry[-1] for entry in self._heap), *blocked]

    def _push(self, index: int, job: Job, penalty: int = 0) -> None:
        penalty += max(0, self._folder.attempts(job.name)["started"] - 1)
        self._number += 1
        heapq.heappush(self._heap, (penalty, index, self._number, job))


class Durations:
    """Measured durations by kind of job, for the time left."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str], list[float]] = {}

    def add(self, job: Job, seconds: float) -> None:
        """Adds the duration of a complete job."""
        self._seconds.setdefault(job.kind, []).append(seconds)

    def estimate(self, jobs: Sequence[Job], workers: int) -> float | None:
        """Returns the seconds that jobs will take; None before the first measured one."""
        if not self._seconds:
            return None
        means = {kind: mean(values) for kind, values in self._seconds.items()}
        overall = mean(means.values())
        return sum(means.get(job.kind, overall) for job in jobs) / workers
