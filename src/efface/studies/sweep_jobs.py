"""One job of a sweep: making an erasure, or measuring a cell. It imports torch when it runs, in whichever process."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface import api
from efface.api.evaluation_inputs import EvaluationInputs, build_generator, load_evaluation_inputs
from efface.benchmarks.benchmark import Benchmark
from efface.core.errors import EffaceError
from efface.core.io import atomic_folder
from efface.core.result import Result
from efface.core.serialization import json_bytes, to_jsonable
from efface.models.loading import load_model

from .sweep_attack import measure_attack
from .sweep_cell import Cell
from .sweep_folder import CELL, COST, EVIDENCE, RESULT, SweepFolder

if TYPE_CHECKING:
    from efface.benchmarks.image_generation import ImageGenerator
    from efface.models.editable import EditableModel


@dataclass(frozen=True)
class Job:
    """Work for one worker.

    Attributes:
        cell: the cell, or a cell of the erasure to make.
        makes_erasure: whether the job makes the cell's erasure instead of measuring the cell.
    """

    cell: Cell
    makes_erasure: bool

    @property
    def name(self) -> str:
        """Unique name, valid as a file name."""
        return f"erase-{self.cell.run.folder_name}" if self.makes_erasure else self.cell.folder_name

    @property
    def title(self) -> str:
        """The job in words."""
        cell = self.cell
        if self.makes_erasure:
            return f"{cell.method.name} {cell.benchmark_name} seed {cell.run.seed} erasing"
        return cell.title

    @property
    def kind(self) -> tuple[str, str]:
        """Jobs of one kind take about the same time."""
        return ("erase", self.cell.method.name) if self.makes_erasure else ("cell", self.cell.attack_name)


@dataclass(frozen=True)
class Outcome:
    """The end of a job: its duration in seconds, and an error in one line, empty without one."""

    seconds: float
    error: str = ""
    details: str = ""


def run_job(job: Job, path: Path) -> Outcome:
    """Runs a job in the folder of its sweep; every error but an interruption becomes part of the outcome."""
    start = time.perf_counter()
    try:
        folder = SweepFolder(path)
        (_make_erasure if job.makes_erasure else _measure)(job.cell, folder)
    except Exception as error:  # whatever a method or attack raises must not stop the grid
        _model.cache_clear()  # an error may leave the model changed
        kind = "" if isinstance(error, EffaceError) else f"{type(error).__name__}: "
        line = " ".join(f"{kind}{error}".split())
        return Outcome(time.perf_counter() - start, line, traceback.format_exc())
    return Outcome(time.perf_counter() - start)


@lru_cache(maxsize=1)
def _model(ref: str) -> EditableModel:
    return load_model(ref)


def _make_erasure(cell: Cell, folder: SweepFolder) -> None:
    concepts, out = Benchmark.load(cell.benchmark).concepts, folder.erasure(cell.run)
    out.parent.mkdir(parents=True, exist_ok=True)
    api.erase(
        concepts, out=out, model=_model(cell.run.model), method=cell.run.method,
        preset=cell.run.preset, config=cell.method.settings, seed=cell.run.seed, resume=True, quick_evaluation=False,
    )  # fmt: skip


def _measure(cell: Cell, folder: SweepFolder) -> None:
    """Measures a cell and writes its folder atomically."""
    start = time.perf_counter()
    inputs = load_evaluation_inputs(folder.erasure(cell.run), cell.benchmark, cell.split)
    model = _model(cell.run.model)
    generator = build_generator(inputs.benchmark, inputs.erasure, model, allow_base_mismatch=False, cache_images=True)
    with atomic_folder(folder.cell(cell)) as new:
        if cell.attack is None:
            result, cost = _evaluate(cell, inputs, generator, new / EVIDENCE)
        else:
            result, cost = measure_attack(cell, inputs, generator, new / EVIDENCE, folder)
        names = {"method_name": cell.method.name, "attack_name": cell.attack_name}
        (new / CELL).write_bytes(json_bytes(to_jsonable({**names, **cell.to_dict()})))
        (new / RESULT).write_bytes(json_bytes(to_jsonable(result.to_dict())))
        (new / COST).write_bytes(json_bytes({"seconds": time.perf_counter() - start, **cost}))


def _evaluate(
    cell: Cell, inputs: EvaluationInputs, generator: ImageGenerator, out: Path
) -> tuple[Result, dict[str, Any]]:
    from efface.benchmarks.runner import run_benchmark

    metadata = {"model": generator.model.name, "erasure_hash": inputs.erasure.spec.hash}
    evaluation = run_benchmark(
        inputs.benchmark, generator, inputs.erasure, split=cell.split, limit=cell.limit, metadata=metadata
    )
    evaluation.save(out)
    return evaluation.result, {}
