"""``efface sweep``: a grid of methods, benchmarks, seeds and attacks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .app import app
from .options import Json
from .output import print_result

if TYPE_CHECKING:
    from efface.studies.sweep import Step, SweepReport
    from efface.studies.sweep_cell import Cell

GridFile = Annotated[Path, typer.Argument(metavar="GRID", help="YAML file of the grid.")]
SweepOut = Annotated[
    Path | None, typer.Option("--out", help="Folder of the sweep, by default named like the grid; complete cells stay.")
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray", help="Run on Ray: 'local', or the address of a head such as node1:6379; else in this process."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Maximum number of jobs at the same time on Ray; one per CPU or GPU by default."),
]
Gpus = Annotated[float, typer.Option(min=0, help="Number of GPUs of each job on Ray, such as 1 or 0.5.")]
Retries = Annotated[int, typer.Option(min=0, help="How often a failed job is tried again after all others.")]
Minutes = Annotated[
    float | None,
    typer.Option(min=0, help="Start no job after this many minutes; the same command continues later."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="List the cells and whether they are complete; measure nothing.")
]


@app.command()
def sweep(
    grid: GridFile,
    out: SweepOut = None,
    ray: Ray = None,
    workers: Workers = None,
    gpus: Gpus = 0.0,
    retries: Retries = 1,
    minutes: Minutes = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Run a grid of methods, benchmarks, seeds and attacks; the same command continues a sweep that was stopped."""
    from efface.core.errors import EffaceError
    from efface.studies.sweep_grid import read_grid

    if ray is None and (workers is not None or gpus):
        raise EffaceError("--workers and --gpus are for Ray: add --ray local, or leave them out")
    loaded, folder = read_grid(grid), out or Path(grid.stem)
    if dry_run:
        _list_cells(loaded.cells(), folder, as_json)
        return
    from efface.studies.sweep import sweep as run_sweep
    from efface.studies.sweep_workers import build_workers

    report = run_sweep(
        loaded, folder, workers=lambda path: build_workers(path, ray, workers, gpus), retries=retries,
        minutes=minutes, on_step=_print_step,
    )  # fmt: skip
    _print_report(report, as_json)
    if report.failed:
        raise typer.Exit(1)


def _list_cells(cells: list[Cell], out: Path, as_json: bool) -> None:
    from efface.studies.sweep_folder import SweepFolder

    folder = SweepFolder(out)
    rows = [{"cell": cell.folder_name, "title": cell.title, "complete": folder.has_cell(cell)} for cell in cells]
    lines = [f"{'complete' if row['complete'] else 'open':9}{row['title']}" for row in rows]
    lines.append(f"{sum(bool(row['complete']) for row in rows)} of {len(rows)} cells are complete")
    print_result(rows, "\n".join(lines), as_json)


def _print_step(step: Step) -> None:
    """Prints one line for the end of a job: what, how long, and the time left."""
    from efface.reporting.formatting import format_duration

    left = "" if step.seconds_left is None else f", {format_duration(step.seconds_left)} left"
    end = f"failed: {step.outcome.error}" if step.outcome.error else format_duration(step.outcome.seconds)
    print(f"[{step.complete}/{step.total}{left}] {step.job.title}: {end}", file=sys.stderr, flush=True)


def _print_report(report: SweepReport, as_json: bool) -> None:
    data = {"folder": str(report.folder), "cells": report.total, "complete": report.complete, "failed": report.failed}
    lines = [f"failed: {title}: {error}" for title, error in report.failed.items()]
    num_open = report.total - report.complete
    rest = f"; run the same command to continue with the other {num_open}" if num_open else ""
    lines.append(f"{report.complete} of {report.total} cells are complete in {report.folder}{rest}")
    print_result(data, "\n".join(lines), as_json)
