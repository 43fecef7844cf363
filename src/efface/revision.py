"""A closed-form erasure solved again from what it keeps of its texts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from efface.core.concept import Concept, check_together
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.registry import METHODS
from efface.core.spec import RunSpec
from efface.execution import made
from efface.models.editable import Editable
from efface.ops.closed_form import Statistics
from efface.ops.training.progress import Progress


def remake(
    model: Editable, erasure: Erasure, out: Path, *, add: tuple[Concept, ...], drop: Sequence[str], overwrite: bool,
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
    concepts = (*_with_all_retained(erasure.concepts, left), *add)
    check_together(concepts)
    found = found.only(left)
    if add:
        found = found.joined(module.statistics(model, add, config, known=found.kept.texts))
    old = erasure.spec
    spec = RunSpec(model.name, model.fingerprint(), old.method, old.config, concepts, old.seed, old.preset)
    return made(
        model,
        spec,
        out,
        lambda run: module.solve(model, found, config, run),
        resume=False,
        overwrite=overwrite,
        progress=progress,
    )


def _with_all_retained(concepts: Sequence[Concept], left: Sequence[int]) -> tuple[Concept, ...]:
    """The concepts that are left, the first of them with the retain prompts of those that go: what had to stay must still stay."""
    gone = [prompt for i, concept in enumerate(concepts) if i not in left for prompt in concept.retain]
    rest = [concepts[i] for i in left]
    if rest and gone:
        rest[0] = replace(rest[0], retain=tuple(dict.fromkeys((*rest[0].retain, *gone))))
    return tuple(rest)
