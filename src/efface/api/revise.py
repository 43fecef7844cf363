"""Solve a closed-form erasure again for more or fewer concepts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError, UnknownNameError
from efface.models.loading import ModelLike, load_model

from .validation import load_erasure, validate_output_dir

if TYPE_CHECKING:
    from efface.ops.training.progress import Progress


def revise(
    artifact: str | Path, *, out: str | Path, add: Sequence[str | Concept] = (), drop: Sequence[str] = (),
    model: ModelLike | None = None, overwrite: bool = False, progress: Progress | None = None,
) -> Erasure:  # fmt: skip
    """Erase more concepts, or give some back: a closed-form erasure is solved again from what it keeps of its texts.

    The result is what erasing the new list of concepts at once would have given.

    Args:
        artifact: the erasure's folder.
        out: the new artifact's folder.
        add: concepts to erase, too; their retain prompts are kept besides those that are there.
        drop: names of concepts that are no longer erased.
        model: the base model; by default the one that the erasure was made for.
        overwrite: replace an erasure that is there.
        progress: where to show progress.

    Raises:
        UnknownName: a name to drop that is not erased.
        EffaceError: a method that keeps nothing to solve from, no concept left, a retain prompt that mentions a concept, another base.
    """
    validate_output_dir(Path(out), overwrite)
    erasure = load_erasure(artifact)
    names = [concept.name for concept in erasure.concepts]
    for name in drop:
        if name not in names:
            raise UnknownNameError("erased concept", name, names)
    if not add and not drop:
        raise EffaceError("nothing to revise: name concepts to add or to drop")
    loaded = load_model(erasure.spec.model if model is None else model, default=erasure.spec.model)
    from efface.ops.editing.apply import check_base
    from efface.revision import resolve_erasure

    check_base(loaded, erasure)
    more = tuple(Concept.coerce(concept) for concept in add)
    return resolve_erasure(loaded, erasure, Path(out), add=more, drop=drop, overwrite=overwrite, progress=progress)
