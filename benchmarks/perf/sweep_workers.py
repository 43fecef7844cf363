"""Time of a sweep in one process, relative to two workers on Ray: ``python benchmarks/perf/sweep_workers.py``.

Both make the same erasures of pocket, which take a few seconds each, and attack them with other phrases. The start of
Ray and the loading of the model in each worker count. Two processes without Ray, each with the whole sweep, show what
the machine can give: two threads of one core are not two cores. Needs two idle cores and ``pip install 'efface[ray]'``.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, here and in the workers

import typer

from efface.studies.sweep import sweep
from efface.studies.sweep_grid import read_grid
from efface.studies.sweep_workers import LOCAL, build_workers

GRID = "methods: [uce, leace, rece, speed]\nbenchmarks: [pocket-weapon]\nattacks: [synonyms]\nevaluate: false\n"


def time_sweep(folder: Path, workers: int | None, limit: int) -> float:
    """Seconds of a sweep with an empty cache, in this process without a number of workers."""
    folder.mkdir()
    os.environ["EFFACE_CACHE"] = str(folder / "cache")
    (folder / "grid.yaml").write_text(f"{GRID}limit: {limit}\n")
    grid, start = read_grid(folder / "grid.yaml"), time.perf_counter()
    report = sweep(
        grid, folder / "out", workers=lambda out: build_workers(out, LOCAL if workers else None, workers, gpus=0.0)
    )
    if report.failed:
        raise SystemExit(f"cells failed: {report.failed}")
    return time.perf_counter() - start


def main(limit: int = 48) -> None:
    """Measure and print JSON."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one, two = (time_sweep(folder / str(n), n, limit) for n in (None, 2))
        with ProcessPoolExecutor(2, get_context("spawn")) as processes:
            both = max(processes.map(time_sweep, (folder / "a", folder / "b"), (None, None), (limit, limit)))
    row = {"machine": platform.machine(), "cores": os.cpu_count(), "limit": limit}
    print(json.dumps(row | {"gain": one / two, "gain_without_ray": 2 * one / both}))


if __name__ == "__main__":
    typer.run(main)
