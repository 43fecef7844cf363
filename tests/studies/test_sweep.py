"""Sweeps: the grid's file, the order of jobs, failures and retries, and continuing after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.cli import call, check_refused
from helpers.small_benchmark import small_benchmark

from efface.benchmarks.result_store import ResultStore
from efface.core.errors import EffaceError
from efface.core.io import atomic_folder
from efface.core.manifest import MANIFEST
from efface.studies.sweep import Step, sweep
from efface.studies.sweep_folder import COST, RESULT, SweepFolder
from efface.studies.sweep_grid import Grid, read_grid
from efface.studies.sweep_jobs import Job, Outcome
from efface.studies.sweep_workers import RayWorkers

GRID = "methods: [uce, {method: uce, name: weak, settings: {erase_scale: 0.5}}]\nbenchmarks: [pocket-weapon]\n"


def grid_of(folder: Path, text: str = GRID + "attacks: [synonyms]\n") -> Grid:
    (folder / "grid.yaml").write_text(text)
    return read_grid(folder / "grid.yaml")


class FakeJobs:
    """In place of `run_job`: writes empty folders, and raises where `fails` says so."""

    def __init__(self, fails: Callable[[Job], bool] = lambda job: False) -> None:
        self.ran: list[str] = []
        self.fails = fails

    def __call__(self, job: Job, path: Path) -> Outcome:
        self.ran.append(job.title)
        if self.fails(job):
            return Outcome(1.0, "RuntimeError: CUDA out of memory")
        folder = SweepFolder(path)
        target = folder.erasure(job.cell.run) if job.makes_erasure else folder.cell(job.cell)
        with atomic_folder(target) as new:
            (new / (MANIFEST if job.makes_erasure else RESULT)).write_text("{}")
            (new / COST).write_text('{"seconds": 2.0}')
        return Outcome(2.0)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> FakeJobs:
    fake = FakeJobs()
    monkeypatch.setattr("efface.studies.sweep_workers.run_job", fake)
    monkeypatch.setattr("efface.studies.sweep.write_results", lambda folder, cells: None)
    return fake


def test_each_erasure_is_made_once_and_complete_cells_are_not_measured_again(jobs: FakeJobs, tmp_path: Path) -> None:
    grid, steps = grid_of(tmp_path), list[Step]()
    report = sweep(grid, tmp_path / "o", on_step=steps.append)
    assert (report.total, report.complete, report.failed) == (4, 4, {})
    cell = "pocket-weapon seed 0"
    kinds = ("erasing", "evaluation", "synonyms")
    assert jobs.ran == [f"{method} {cell} {kind}" for method in ("uce", "weak") for kind in kinds]
    assert steps[1].seconds_left == 2.0 * 4
    jobs.ran.clear()
    assert sweep(grid, tmp_path / "o").complete == 4
    assert jobs.ran == []


def test_a_failing_cell_is_tried_again_at_the_end_and_does_not_stop_the_grid(jobs: FakeJobs, tmp_path: Path) -> None:
    jobs.fails = lambda job: job.title.startswith("uce") and job.title.endswith("evaluation")
    grid = grid_of(tmp_path)
    report = sweep(grid, tmp_path / "o")
    failed = "uce pocket-weapon seed 0 evaluation"
    assert report.failed == {failed: "RuntimeError: CUDA out of memory"}
    assert report.complete == 3
    assert jobs.ran[-1] == failed
    assert jobs.ran.count(failed) == 2
    assert SweepFolder(tmp_path / "o").attempts(grid.cells()[0].folder_name)["errors"] == [*report.failed.values()] * 2
    jobs.fails = lambda job: False
    assert sweep(grid, tmp_path / "o").failed == {}
    assert not list((tmp_path / "o" / "attempts").iterdir())


def test_a_failing_erasure_fails_its_cells_only(jobs: FakeJobs, tmp_path: Path) -> None:
    jobs.fails = lambda job: job.makes_erasure and job.cell.method.name == "uce"
    report = sweep(grid_of(tmp_path), tmp_path / "o", retries=0)
    assert sorted(report.failed) == [f"uce pocket-weapon seed 0 {kind}" for kind in ("evaluation", "synonyms")]
    assert report.complete == 2


def test_a_job_that_was_killed_twice_comes_last(jobs: FakeJobs, tmp_path: Path) -> None:
    grid, folder = grid_of(tmp_path), SweepFolder(tmp_path / "o")
    first = Job(grid.cells()[0], makes_erasure=True)
    folder.begin(first.name)
    sweep(grid, folder.path, minutes=0)
    folder.begin(first.name)
    sweep(grid, folder.path)
    assert [title for title in jobs.ran if title.endswith("erasing")][-1] == first.title


def test_a_second_sweep_in_one_folder_is_refused(jobs: FakeJobs, tmp_path: Path) -> None:
    with SweepFolder(tmp_path / "o").locked(), pytest.raises(EffaceError, match="another sweep writes to"):
        sweep(grid_of(tmp_path), tmp_path / "o")


@pytest.mark.parametrize("address", ["127.0.0.1:9", "node1", "node1:head"])
def test_no_head_answers(address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("efface.studies.sweep_workers._import_ray", SimpleNamespace)  # Ray is never asked
    with pytest.raises(EffaceError, match=f"no Ray head answers at {address}"):
        RayWorkers(tmp_path, address)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--workers", "2"), "--workers and --gpus are for Ray: add --ray local"),
        (("--gpus", "1"), "--workers and --gpus are for Ray: add --ray local"),
        (("--ray", "local"), "Ray is not installed: pip install 'efface[ray]'"),
    ],
)
def test_options_for_ray(
    options: tuple[str, str], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, "ray", None)
    grid_of(tmp_path)
    check_refused(call(capfd, "sweep", tmp_path / "grid.yaml", "--out", tmp_path / "o", *options), message)


KILLED = """
import sys, time
from pathlib import Path
sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parent)]
from test_sweep import FakeJobs
from efface.studies import sweep, sweep_workers
from efface.studies.sweep_grid import read_grid

class Slow(FakeJobs):
    def __call__(self, job, path):
        time.sleep(0.05)
        print(job.name, flush=True)
        return super().__call__(job, path)

sweep_workers.run_job = Slow()
sweep.write_results = lambda folder, cells: None
sweep.sweep(read_grid(Path(sys.argv[2]) / "grid.yaml"), Path(sys.argv[2]) / "o")
"""


@pytest.mark.slow
def test_a_killed_sweep_loses_no_cell(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, GRID + "attacks: [synonyms, inside_out, ring_a_bell]\nseeds: [0, 1, 2]\n")
    folder, started = SweepFolder(tmp_path / "o"), 0
    for _ in range(20):
        command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        assert process.stdout is not None
        process.stdout.readline()
        started += 1
        time.sleep(0.1 * started)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()
        if all(map(folder.has_cell, grid.cells())):
            break
    assert started > 2, "the sweep was killed"
    assert sorted(p.name for p in (folder.path / "cells").iterdir()) == sorted(c.folder_name for c in grid.cells())


@pytest.mark.slow
def test_measured_cells_are_equal_bytes_and_become_compact_results(tmp_path: Path) -> None:
    benchmark = small_benchmark(tmp_path, "pocket-weapon", 4, ("name",))
    grid = grid_of(tmp_path, f"methods: [uce]\nbenchmarks: ['{benchmark}']\nattacks: [synonyms]\nlimit: 3\nimages: 2\n")
    for name in ("one", "two"):
        assert sweep(grid, tmp_path / name).failed == {}
    for cell in grid.cells():
        first, second = ((SweepFolder(tmp_path / name).cell(cell) / RESULT).read_bytes() for name in ("one", "two"))
        assert first == second
        assert "attack_seconds" not in json.loads(first)
    (result,) = ResultStore(tmp_path / "one" / "results" / "uce.json").results.values()
    assert {"rer", "asr_post"} <= {score.metric for score in result.scores}
    assert result.metadata["cost"]["seconds"] > 0
