"""Solves a closed-form erasure again, for more or fewer concepts, from its saved statistics."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from efface.core.concept import Concept, validate_concepts
from efface.core.contradictions import check_contradictions
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.registry import METHODS
from efface.core.spec import RunSpec
from efface.execution import run_and_save
from efface.models.editable import EditableModel
from efface.ops.closed_form import Statistics
from efface.ops.training.progress import Progress


def resolve_erasure(
    model: EditableModel,
    erasure: Erasure,
    out: Path,
    *,
    add: tuple[Concept, ...],
    drop: Sequence[str],
    overwrite: bool,
    progress: Progress | None,
) -> Erasure:
    """Solves a closed-form erasure again from its statistics; only the texts of added concepts are encoded.

    Args:
        model: Base model.
        erasure: Erasure with statistics among its tensors.
        out: Folder to write the new erasure to.
        add: Concepts to erase as well.
        drop: Names of concepts to restore.
        overwrite: Replace an erasure in ``out``.
        progress: Progress display; None shows nothing.

    Raises:
        EffaceError: No statistics were saved, or no concept is left.
    """
    old = erasure.spec
    module = _solver_module(old.method)
    config = module.Config(**old.config)
    statistics = Statistics.read(erasure.tensors)
    remaining = [i for i, concept in enumerate(erasure.concepts) if concept.name not in drop]
    concepts = (*_keep_retain_prompts(erasure.concepts, remaining), *add)
    validate_concepts(concepts)
    if add:
        check_contradictions(concepts)
    statistics = statistics.subset(remaining)
    if add:
        statistics = statistics.merge(module.statistics(model, add, config, known=statistics.preserved.texts))
    spec = RunSpec(model.name, model.fingerprint(), old.method, old.config, concepts, old.seed, old.preset)
    solve = partial(module.solve, model, statistics, config)
    return run_and_save(model, spec, out, solve, resume=False, overwrite=overwrite, progress=progress)


def _solver_module(method: str) -> Any:
    """The module of a method that saves statistics and solves from them.

    Raises:
        EffaceError: The method saves no statistics.
    """
    module: Any = sys.modules[METHODS.get(method).__module__]  # type: ignore[attr-defined]
    if not hasattr(module, "statistics"):
        raise EffaceError(f"{method} saves no statistics to solve from: erase all concepts again with `efface erase`")
    return module


def _keep_retain_prompts(concepts: Sequence[Concept], remaining: Sequence[int]) -> tuple[Concept, ...]:
    """The remaining concepts; the first also takes over the retain prompts of the dropped ones."""
    dropped = [prompt for i, concept in enumerate(concepts) if i not in remaining for prompt in concept.retain_prompts]
    left = [concepts[i] for i in remaining]
    if left and dropped:
        left[0] = replace(left[0], retain_prompts=tuple(dict.fromkeys((*left[0].retain_prompts, *dropped))))
    return tuple(left)
