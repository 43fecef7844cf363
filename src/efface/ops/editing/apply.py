"""Applying an erasure to a model and removing it again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from efface.core.composition import is_same
from efface.core.erasure import Erasure, verify
from efface.core.errors import CorruptArtifactError, EffaceError
from efface.models.editable import EditableModel
from efface.models.loading import load_model

from .active_gates import forget_strengths
from .apply_edits import SAMPLER, apply_edit
from .base_check import check_base
from .inserted_modules import forget_row_strengths


@dataclass(frozen=True, eq=False)
class Applied:
    """An erasure that is active on a model.

    Attributes:
        erasure: the erasure.
        base: the model's fingerprint without any erasure.
        distances: relative l2 distance of the model's base from the erasure's by component; None if not comparable.
        base_mismatch: whether the model is another base than the erasure was made for: a transfer.
    """

    erasure: Erasure
    base: dict[str, Any]
    distances: dict[str, float | None]
    base_mismatch: bool
    _undo: ExitStack = field(repr=False)


_ACTIVE: WeakKeyDictionary[EditableModel, list[Applied]] = WeakKeyDictionary()


def active_erasures(model: EditableModel) -> tuple[Applied, ...]:
    """Returns the model's active erasures in the order in which they were applied."""
    return tuple(_ACTIVE.get(model, ()))


def apply(model: Any, erasure: Erasure, allow_base_mismatch: bool = False) -> Applied:
    """Applies every edit of an erasure to a model in place, all or none.

    Several erasures can be applied on top of each other; each is compared with the model before the first. Memory: a
    copy of the tensors that are written, for `remove`.

    Args:
        model: the model to edit, or a diffusers pipeline.
        erasure: an erasure from a method or from a folder, whose files are hashed again first.
        allow_base_mismatch: transfer to another base; the distance is recorded instead of refused.

    Raises:
        BaseModelMismatchError: the model is not the base that the erasure was made for.
        CorruptArtifactError: a file of the erasure was changed.
        EffaceError: it is applied already, or an edit does not fit; the model is then unchanged.
    """
    model = loaded_model(model, erasure)
    if erasure.folder is not None:
        damage = [problem for problem in verify(erasure.folder) if problem.kind != "extra"]
        if damage:
            raise CorruptArtifactError(f"{erasure.folder} was changed after it was written: {damage[0]}")
    active = _ACTIVE.setdefault(model, [])
    if any(is_same(record.erasure, erasure) for record in active):
        raise EffaceError(f"{erasure.spec.folder_name} is applied to {model.name} already: remove it first")
    base = active[0].base if active else model.fingerprint()
    distances, mismatched = check_base(model, erasure, base, allow_base_mismatch)
    with ExitStack() as undo:
        for edit in erasure.edits:
            apply_edit(model, edit, erasure.tensors, undo)
        active.append(Applied(erasure, base, distances, bool(mismatched), undo.pop_all()))
    _forget(model)
    return active[-1]


def _forget(model: EditableModel) -> None:
    """Lets gates compute their strengths again, because the model changed."""
    forget_strengths(model)
    for component in model.components.values():
        forget_row_strengths(component)


def loaded_model(model: Any, erasure: Erasure | None = None) -> EditableModel:
    """Returns the model of a diffusers pipeline; a loaded model is returned unchanged.

    Raises:
        EffaceError: a name or path, or an erasure that changes efface's sampler, for a pipeline.
    """
    if hasattr(model, "fingerprint"):
        return model  # type: ignore[no-any-return]
    if isinstance(model, str | Path):
        raise EffaceError(f"{str(model)!r} is no loaded model: pass efface.load_model({str(model)!r}), or a pipeline")
    if erasure is not None and any(edit.component == SAMPLER for edit in erasure.edits):
        raise EffaceError(
            f"{erasure.spec.method} changes efface's sampler and no weights, so that a pipeline would generate "
            "unchanged images: apply it to model = efface.load_model(pipe), and call model.sample"
        )
    return load_model(model)


def remove_erasure(model: Any, erasure: Erasure) -> None:
    """Removes this erasure; those that were applied later stay (see `remove`).

    Raises:
        EffaceError: the erasure is not applied to the model.
    """
    loaded = loaded_model(model)
    records = [record for record in active_erasures(loaded) if is_same(record.erasure, erasure)]
    if not records:
        raise EffaceError(f"{erasure.spec.folder_name} is not applied to {loaded.name}")
    remove(loaded, records[0])


def remove(model: Any, applied: Applied | None = None) -> None:
    """Removes an erasure, by default the last; without the only one, every byte of the model is the base's again.

    Erasures that were applied later are taken off, and applied again to the model without this one.

    Args:
        model: the model, or a diffusers pipeline.
        applied: the erasure to remove; the last by default.

    Raises:
        EffaceError: the model has no erasure, or not this one.
    """
    model = loaded_model(model)
    active = _ACTIVE.get(model, [])
    if not active:
        raise EffaceError(f"{model.name} has no active erasure")
    record = active[-1] if applied is None else applied
    if record not in active:
        raise EffaceError(f"{record.erasure.spec.folder_name} is not applied to {model.name}")
    position = active.index(record)
    later = active[position + 1 :]
    for each in reversed(active[position:]):
        each._undo.close()
    del active[position]
    for each in later:
        for edit in each.erasure.edits:
            apply_edit(model, edit, each.erasure.tensors, each._undo)
    _forget(model)


@contextmanager
def applied(model: Any, erasure: Erasure, allow_base_mismatch: bool = False) -> Iterator[Applied]:
    """Applies an erasure for the body of a ``with`` and removes it afterwards, also after an error."""
    loaded = loaded_model(model, erasure)
    record = apply(loaded, erasure, allow_base_mismatch)
    try:
        yield record
    finally:
        if record in active_erasures(loaded):
            remove(loaded, record)
