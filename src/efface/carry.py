"""The verbs that make something else of an erasure: for another model, with other concepts, in files of other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from efface.checks import check_place, load_erasure
from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError, UnknownName
from efface.models.load import ModelLike, load_model

if TYPE_CHECKING:
    from efface.export.forms import Exported
    from efface.ops.progress import Progress


def transfer(
    artifact: str | Path, to: ModelLike, *, out: str | Path, force: bool = False, overwrite: bool = False,
    progress: Progress | None = None,
) -> Erasure:  # fmt: skip
    """Put an erasure onto another model that shares what it edits, without training; the result is an erasure for that model.

    Args:
        artifact: the erasure's folder.
        to: whatever `efface.load_model` takes, or a `ModelRef`.
        out: the new artifact's folder.
        force: whether what is edited may differ from what the erasure was made for; the distance is recorded.
        overwrite: replace an erasure that is there.
        progress: where to show progress.

    Returns:
        The erasure as it lies in ``out``; ``effect["transfer"]`` says where it comes from and how far the bases are apart.

    Raises:
        BaseMismatch: what the erasure edits is another one in that model.
        EffaceError: no artifact there, or no place for the new one.
    """
    check_place(Path(out), overwrite)
    erasure = load_erasure(artifact)
    loaded = load_model(to)
    from efface.making import carry_over

    return carry_over(loaded, erasure, Path(out), force=force, overwrite=overwrite, progress=progress)


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
    check_place(Path(out), overwrite)
    erasure = load_erasure(artifact)
    names = [concept.name for concept in erasure.concepts]
    for name in drop:
        if name not in names:
            raise UnknownName("erased concept", name, names)
    if not add and not drop:
        raise EffaceError("nothing to revise: name concepts to add or to drop")
    loaded = load_model(erasure.spec.model if model is None else model, default=erasure.spec.model)
    from efface.ops.apply import check_base
    from efface.remaking import remake

    check_base(loaded, erasure)
    more = tuple(Concept.of(concept) for concept in add)
    return remake(loaded, erasure, Path(out), add=more, drop=drop, overwrite=overwrite, progress=progress)


def export(
    artifact: str | Path, out: str | Path, *, form: str = "diffusers", rank: int | None = None, model: ModelLike | None = None,
    force: bool = False, overwrite: bool = False, progress: Progress | None = None,
) -> Exported:  # fmt: skip
    """Export an erasure as files that other programs load, with a model card and the erasure's manifest.

    Args:
        artifact: the erasure's folder.
        out: the folder to write.
        form: ``diffusers`` (the whole edited pipeline), ``component`` (only what was edited), ``peft`` or ``kohya`` (a LoRA), or
            ``single-file`` (the original layout, for ComfyUI and AUTOMATIC1111).
        rank: of the LoRA for tensors that the erasure replaces; a LoRA-like erasure is exported exactly, without a rank.
        model: the base model; by default the one that the erasure was made for.
        force: whether it may be another one.
        overwrite: replace an export that is there.
        progress: where to show progress.

    Returns:
        What was written; ``residuals`` says what a LoRA of a rank leaves out.

    Raises:
        BaseMismatch: the model is not the base that the erasure was made for.
        EffaceError: an edit that the form cannot hold, a damaged artifact, or no place.
    """
    from efface.export.forms import EXPORT, check_form

    check_place(Path(out), overwrite, EXPORT, "export")
    erasure = load_erasure(artifact)
    check_form(erasure, form, rank)
    loaded = load_model(erasure.spec.model if model is None else model, default=erasure.spec.model)
    from efface.export.write import export as write

    return write(loaded, erasure, Path(out), form, rank=rank, force=force, overwrite=overwrite, progress=progress)
