"""Erase concepts from a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.registry import METHODS
from efface.core.unsaved import new_folder, remove_with, removed_on_error
from efface.models.loading import load_model
from efface.models.model_ref import ModelLike

from .validation import ConceptLike, add_default_retain_sets, coerce_concepts, default_method, validate_erase

if TYPE_CHECKING:
    from efface.ops.training.progress import Progress


def erase(
    concepts: ConceptLike | Sequence[ConceptLike], *, out: str | Path | None = None, model: ModelLike = "pocket",
    method: str | None = None, preset: str | None = None, config: Mapping[str, Any] | None = None, seed: int = 0,
    resume: bool = False, overwrite: bool = False, clip: str | None = None, quick_evaluation: bool = True,
    progress: Progress | None = None,
) -> Erasure:  # fmt: skip
    """Erase concepts from a model and save the erasure; the model itself does not change.

    Args:
        concepts: Concepts, each a name, a `Concept` or the `Path` of a file with settings, which ``config`` overrides.
            On a bundled model, its retain set is the default.
        out: Folder to write the erasure to. Without one, ``erasure.save(folder)`` keeps it and its evidence later.
        model: Anything `efface.load_model` accepts, or a `ModelRef` with the options to load it.
        method: Name of a method; by default esd, elm, famr or ear, by the kind of model.
        preset: One of its presets; by default the model's own, else ``paper``.
        config: Values for fields of the method's configuration.
        seed: Root seed.
        resume: Continue an interrupted run from its checkpoints.
        overwrite: Replace an erasure in ``out``.
        clip: CLIP model (folder or hub id) that judges the quick evaluation; without it, only pocket gets one.
        quick_evaluation: Evaluate the erasure on a few images at the end.
        progress: Progress display; none by default.

    Returns:
        The erasure; ``effect`` holds the effect check.

    Raises:
        EffaceError: Invalid concepts, method, configuration, model or output folder, raised before any work.
    """
    described = coerce_concepts(concepts)
    chosen = method or default_method(model)
    settings = {**described.settings_for(chosen), **(config or {})}
    task = {"model": model, "method": chosen, "preset": preset, "config": settings, "clip": clip}
    options = {"seed": seed, "resume": resume, "quick_evaluation": quick_evaluation, "progress": progress}
    if out is not None:
        return _erase(described.concepts, Path(out), task, {**options, "overwrite": overwrite})
    with removed_on_error(folder := new_folder()):
        erasure = _erase(described.concepts, folder, task, {**options, "overwrite": False})
    remove_with(erasure, folder)
    return erasure


def _erase(concepts: Sequence[Concept], out: Path, task: Mapping[str, Any], options: Mapping[str, Any]) -> Erasure:
    """Checks the task, loads the model and runs the method."""
    validate_erase(concepts, out=out, overwrite=options["overwrite"], **task)
    loaded = load_model(task["model"])
    from efface.execution import is_language_model, run_method  # imports torch, so it follows the checks

    prepared = add_default_retain_sets(concepts, loaded.name, of_language=is_language_model(loaded))
    return run_method(
        loaded, prepared, out, METHODS.get(task["method"]), preset=task["preset"], overrides=task["config"],
        clip=task["clip"], **options,
    )  # fmt: skip
