"""A closed-form erasure solved again from what it keeps of its texts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from efface.core.concept import Concept, validate_concepts
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.registry import METHODS
from efface.core.spec import RunSpec
from efface.execution import run_and_save
from efface.models.editable import EditableModel
from efface.ops.closed_form import Statistics
from efface.ops.training.progress import Progress


def resolve_erasure(
    model: EditableModel, erasure: Erasure, out: Path, *, add: tuple[Concept, ...], drop: Sequence[str], overwrite: bool,
    progress: Progress | None,
) -> Erasure:  # fmt: skip
    """Solves a closed-form erasure again from its statistics, with concepts more or less; only new texts are encoded.

    Raises:
        EffaceError: a method that keeps no statistics, or no concept left.
    """
    module: Any = sys.modules[METHODS.get(erasure.spec.method).__module__]  # type: ignore[attr-defined]
    if not hasattr(module, "statistics"):
        raise EffaceError(
            f"{erasure.spec.method} erases step by step and keeps nothing to solve from again: erase anew with all concepts"
        )
    config = module.Config(**erasure.spec.config)
    found, left = Statistics.read(erasure.tensors), [i for i, c in enumerate(erasure.concepts) if c.name not in drop]
    concepts = (*_with_original_retain_sets(erasure.concepts, left), *add)
    validate_concepts(concepts)
    found = found.subset(left)
    if add:
        found = found.merge(module.statistics(model, add, config, known=found.kept.texts))
    old = erasure.spec
    spec = RunSpec(model.name, model.fingerprint(), old.method, old.config, concepts, old.seed, old.preset)
    return run_and_save(
        model,
        spec,
        out,
        lambda run: module.solve(model, found, config, run),
        resume=False,
        overwrite=overwrite,
        progress=progress,
    )


def _with_original_retain_sets(concepts: Sequence[Concept], left: Sequence[int]) -> tuple[Concept, ...]:
    """The concepts that are left, the first of them with the retain prompts of those that go: what had to stay must still stay."""
    gone = [prompt for i, concept in enumerate(concepts) if i not in left for prompt in concept.retain_prompts]
    rest = [concepts[i] for i in left]
    if rest and gone:
        rest[0] = replace(rest[0], retain_prompts=tuple(dict.fromkeys((*rest[0].retain_prompts, *gone))))
    return tuple(rest)
