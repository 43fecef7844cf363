"""Checks the effect of a composed erasure, and saves it."""

from __future__ import annotations

from pathlib import Path

from efface.core.composition import order_note
from efface.core.erasure import Erasure
from efface.models.editable import EditableModel
from efface.ops.editing.base_check import check_base
from efface.ops.training.progress import Progress

from .effect_check import check_effect
from .readme import render_readme


def save_composed(
    model: EditableModel,
    erasure: Erasure,
    out: Path,
    quick_evaluation: bool,
    overwrite: bool,
    progress: Progress | None,
) -> Erasure:
    """Checks the effect of a composed erasure on its base model and saves it.

    Args:
        model: the base model.
        erasure: the composed erasure.
        out: folder to write.
        quick_evaluation: evaluate on a few images.
        overwrite: replace an erasure in ``out``.
        progress: progress display; None shows nothing.

    Raises:
        BaseModelMismatchError: the model is not the erasures' base.
    """
    check_base(model, erasure)
    note = order_note(erasure)
    checked = check_effect(model, erasure, progress, None, quick_evaluation, **({"order": note} if note else {}))
    summary = f"{checked.summary}; {note}" if note else checked.summary
    readme = render_readme(checked.erasure, summary)
    return checked.erasure.save(out, readme=readme, files=checked.files, overwrite=overwrite)
