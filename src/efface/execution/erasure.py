"""Runs a method, checks the effect of the erasure, and saves it; transfers an erasure to another model."""

from __future__ import annotations

import json
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from efface.core.concept import Concept
from efface.core.erasure import Cost, Erasure
from efface.core.errors import EffaceError
from efface.core.io import atomic_write_json, read_json
from efface.core.spec import RunSpec
from efface.core.word_notes import NOTES
from efface.models.editable import EditableModel
from efface.models.memory import oom_as_user_error
from efface.ops.editing.apply_edits import SAMPLER
from efface.ops.editing.base_check import check_base
from efface.ops.text.concept_tokens import check_fits_context, report_unknown_names
from efface.ops.training.progress import Progress, Silent
from efface.ops.training.run import Run

from .configuration import OUT_OF_MEMORY_HINT, check_family, check_quantized, resolve_config
from .kinds import check_after, check_before, generates_images
from .readme import render_readme


def run_method(
    model: EditableModel, concepts: tuple[Concept, ...], out: Path, function: Any, *, preset: str | None,
    overrides: Mapping[str, Any], seed: int, resume: bool, overwrite: bool, progress: Progress | None,
    clip: str | None = None, quick_evaluation: bool = True,
) -> Erasure:  # fmt: skip
    """Runs a method, checks its effect, and saves the erasure in ``out``.

    Args:
        model: Base model.
        concepts: Concepts to erase.
        out: Folder to write; checkpoints are written beside it until the run is complete.
        function: A registered method.
        preset: Name of a preset; None selects the model's own, else ``paper``.
        overrides: Values for fields of the method's configuration.
        seed: Root seed.
        resume: Continue from the checkpoints of an interrupted run.
        overwrite: Replace an erasure in ``out``.
        progress: Progress display; None shows nothing.
        clip: CLIP model of the quick evaluation on models other than pocket; None evaluates on pocket only.
        quick_evaluation: evaluate on a few images at the end.
    """
    check_family(function, model)
    check_quantized(function, model)
    if generates_images(model):
        check_fits_context(model, concepts)
        report_unknown_names(model, concepts)
    config, preset = resolve_config(function, preset, model.name, overrides, model.family)
    progress = check_before(model, concepts, seed, function, config, progress)
    spec = RunSpec(model.name, model.fingerprint(), function.__name__, asdict(config), concepts, seed, preset)

    def train(run: Run) -> Erasure:
        erasure: Erasure = function(model, concepts, config, run)
        return erasure

    return run_and_save(
        model, spec, out, train, resume=resume, overwrite=overwrite, progress=progress, clip=clip,
        quick_evaluation=quick_evaluation,
    )  # fmt: skip


def run_and_save(
    model: EditableModel,
    spec: RunSpec,
    out: Path,
    train: Callable[[Run], Erasure],
    *,
    resume: bool,
    overwrite: bool,
    progress: Progress | None,
    clip: str | None = None,
    quick_evaluation: bool = True,
) -> Erasure:
    """Calls ``train`` with a `Run`, measures its cost, checks the effect and saves the erasure."""
    work_folder = out.parent / f".{out.name}.run"
    run = Run(
        seed=spec.seed,
        device=model.device,
        folder=work_folder,
        progress=progress or Silent(),
        spec=spec,
        resume=resume,
    )
    with _stopwatch(work_folder, resume) as elapsed, oom_as_user_error(OUT_OF_MEMORY_HINT):
        erasure = train(run)
    erasure = replace(erasure, cost=Cost(elapsed[0], measure_peak_memory()))
    notes = {NOTES: run.notes} if run.notes else {}
    checked = check_after(model, erasure, progress, clip, quick_evaluation, **notes)
    readme = render_readme(checked.erasure, checked.summary)
    files = {"history.json": json.dumps(run.history).encode(), **checked.files}
    saved = checked.erasure.save(out, readme=readme, files=files, overwrite=overwrite)
    shutil.rmtree(work_folder, ignore_errors=True)
    return saved


@contextmanager
def _stopwatch(work_folder: Path, resume: bool) -> Iterator[list[float]]:
    """Times the body of a ``with``; the one-element list holds the seconds, those of interrupted runs included."""
    seconds_file = work_folder / "seconds.json"
    earlier = float(str(read_json(seconds_file))) if resume and seconds_file.is_file() else 0.0
    start = time.perf_counter()
    elapsed = [0.0]
    try:
        yield elapsed
    finally:
        elapsed[0] = earlier + time.perf_counter() - start
        if work_folder.is_dir():
            with suppress(EffaceError):  # the error that ends the run matters more than a full disk here
                atomic_write_json(seconds_file, elapsed[0])


def transfer_erasure(
    model: EditableModel,
    erasure: Erasure,
    out: Path,
    *,
    allow_base_mismatch: bool,
    overwrite: bool,
    progress: Progress | None,
) -> Erasure:
    """Saves the same edits as an erasure of another model.

    Raises:
        BaseModelMismatchError: The edited components differ from the erasure's base and no mismatch is allowed.
    """
    base = model.fingerprint()
    text_encoders = {component for component in base if component.startswith("text_encoder")}
    edited = {edit.component for edit in erasure.edits} - {SAMPLER}
    is_gated = any(edit.gate for edit in erasure.edits)
    compared = edited | ({name for name in erasure.spec.base if name.startswith("text_encoder")} if is_gated else set())
    original_base = {name: fingerprint for name, fingerprint in erasure.spec.base.items() if name in compared}
    compared_only = replace(erasure, spec=replace(erasure.spec, base=original_base))
    distances, mismatched = check_base(model, compared_only, base, allow_base_mismatch)
    unedited = sorted(text_encoders - edited)
    if text_encoders & edited and unedited:
        warnings.warn(
            f"this erasure does not edit {unedited[0]}, which {model.name} reads as well: "
            "prompts may still reach the concept",
            stacklevel=3,
        )
    origin = {
        "from": erasure.spec.hash,
        "model": erasure.spec.model,
        "distances": distances,
        "base_mismatch": bool(mismatched),
    }
    new_spec = replace(erasure.spec, model=model.name, base=base)
    moved = replace(erasure, spec=new_spec, cost=None, folder=None)
    checked = check_after(model, moved, progress, transfer=origin)
    readme = render_readme(checked.erasure, checked.summary)
    return checked.erasure.save(out, readme=readme, files=checked.files, overwrite=overwrite)


def measure_peak_memory() -> int | None:
    """Peak memory in bytes of the CUDA device, else of the process; None if the system does not report it."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes per unit of ru_maxrss
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit
