"""Solve a closed-form erasure again for more or fewer concepts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from efface.core.erasure import Erasure
from efface.core.errors import EffaceError, UnknownNameError
from efface.models.model_ref import ModelLike

from .validation import ConceptLike, ErasureLike, coerce_concepts, load_base, load_erasure, validate_output_dir

if TYPE_CHECKING:
    from efface.ops.training.progress import Progress


def revise(
    artifact: ErasureLike, *, out: str | Path, add: Sequence[ConceptLike] = (), drop: Sequence[str] = (),
    model: ModelLike | None = None, overwrite: bool = False, progress: Progress | None = None,
) -> Erasure:  # fmt: skip
    """Add concepts to a closed-form erasure or drop some, by solving it again from its saved statistics.

    The result equals an erasure of the new list of concepts at once.

    Args:
        artifact: The erasure, or its folder.
        out: Folder to write the new erasure to.
        add: Concepts to erase as well; their retain prompts are added to those of the erasure.
        drop: Names of concepts to restore.
        model: Base model; by default the one the erasure was made for.
        overwrite: Replace an erasure in ``out``.
        progress: Progress display; none by default.

    Raises:
        UnknownNameError: A name in ``drop`` that the erasure does not erase.
        EffaceError: A method without statistics, no concept left, a retain prompt that mentions a concept, or another
            base model.
    """
    validate_output_dir(Path(out), overwrite)
    erasure = load_erasure(artifact)
    names = [concept.name for concept in erasure.concepts]
    for name in drop:
        if name not in names:
            raise UnknownNameError("erased concept", name, names)
    if not add and not drop:
        raise EffaceError("nothing to revise: name concepts to add or to drop")
    loaded = load_base(erasure, model)
    from efface.ops.editing.base_check import check_base
    from efface.revision import resolve_erasure

    check_base(loaded, erasure)
    return resolve_erasure(
        loaded, erasure, Path(out), add=coerce_concepts(add).concepts, drop=drop, overwrite=overwrite, progress=progress
    )
