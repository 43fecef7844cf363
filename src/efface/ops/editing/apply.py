"""An erasure onto a model and off again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from efface.core.erasure import Erasure, verify
from efface.core.errors import BaseModelMismatchError, CorruptArtifactError, EffaceError
from efface.core.tensors import TensorBlob
from efface.models.editable import EditableModel
from efface.models.fingerprint import distance, matches
from efface.models.tensor_names import canonical_name

from .apply_edits import SAMPLER, apply_edit


@dataclass(frozen=True, eq=False)
class Applied:
    """An erasure that is on a model.

    Attributes:
        erasure: which one.
        base: the model's fingerprint without any erasure.
        distances: relative l2 distance of the model's base from the erasure's by component; None where they cannot be compared.
        forced: whether the base is another one than the erasure was made for: a transfer.
    """

    erasure: Erasure
    base: dict[str, Any]
    distances: dict[str, float | None]
    forced: bool
    _undo: ExitStack = field(repr=False)

    def record(self) -> dict[str, Any]:
        """What a result should say of it, as plain JSON."""
        return {"run": self.erasure.spec.hash, "transfer": self.forced, "distances": self.distances}


_ON: WeakKeyDictionary[EditableModel, list[Applied]] = WeakKeyDictionary()


def active_erasures(model: EditableModel) -> tuple[Applied, ...]:
    """The erasures that are on a model, in the order in which they were applied."""
    return tuple(_ON.get(model, ()))


def apply(model: EditableModel, erasure: Erasure, force: bool = False) -> Applied:
    """Puts every edit of an erasure onto a model, in place, all or none.

    Several erasures go on top of each other; each is checked against the model as it was before the first. Memory: a copy of the
    tensors that are written, for `remove`.

    Args:
        model: what to edit.
        erasure: from a method, or loaded; one that lies on the disk is hashed again first.
        force: transfer to another base: the distance is recorded instead of refused.

    Raises:
        BaseMismatch: the model is not the base that the erasure was made for.
        DamagedArtifact: a file of the erasure is not as it was written.
        EffaceError: an edit that does not fit; the model is then as before.
    """
    if erasure.folder is not None and (
        wrong := [problem for problem in verify(erasure.folder) if problem.kind != "extra"]
    ):
        raise CorruptArtifactError(f"{erasure.folder} is not as it was written: {wrong[0]}")
    on = _ON.setdefault(model, [])
    base = on[0].base if on else model.fingerprint()
    distances, other = check_base(model, erasure, base, force)
    with ExitStack() as undo:
        for edit in erasure.edits:
            apply_edit(model, edit, erasure.tensors, undo)
        on.append(Applied(erasure, base, distances, bool(other), undo.pop_all()))
    return on[-1]


def remove(model: EditableModel, applied: Applied | None = None) -> None:
    """Takes the last erasure off again: every byte is as it was before.

    Args:
        model: the model.
        applied: which one; it must be the last.

    Raises:
        EffaceError: none is on the model, or another went on later.
    """
    on = _ON.get(model, [])
    if not on:
        raise EffaceError(f"no erasure is on {model.name}")
    if applied is not None and applied is not on[-1]:
        raise EffaceError(f"{on[-1].erasure.spec.folder_name} is on top: remove erasures in the reverse order")
    on.pop()._undo.close()


@contextmanager
def applied(model: EditableModel, erasure: Erasure, force: bool = False) -> Iterator[Applied]:
    """`apply` for the body of a ``with``, `remove` after it, also when it raises."""
    record = apply(model, erasure, force)
    try:
        yield record
    finally:
        while record in active_erasures(model):
            remove(model)


def check_base(
    model: EditableModel, erasure: Erasure, base: dict[str, Any] | None = None, force: bool = False
) -> tuple[dict[str, float | None], list[str]]:
    """`compare` with the model's base, computed here where it is not given.

    Raises:
        BaseMismatch: the model is not the base that the erasure was made for, and it is not forced.
    """
    distances, other = compare_bases(erasure, model.fingerprint() if base is None else base)
    if other and not force:
        raise BaseModelMismatchError(_refusal(model, erasure, distances, other))
    return distances, other


def compare_bases(erasure: Erasure, base: dict[str, Any]) -> tuple[dict[str, float | None], list[str]]:
    """The distance of a base's components from the erasure's, and which components are others.

    A component that an edit writes but whose fingerprint the erasure does not hold counts as another one.
    """
    distances: dict[str, float | None] = {}
    unknown = {edit.component for edit in erasure.edits} - set(erasure.spec.base) - {SAMPLER}
    other = sorted(unknown)
    for component, made_for in erasure.spec.base.items():
        if component not in base or not isinstance(made_for, dict):
            distances[component], same = None, False
        else:
            apart = distance(base[component], made_for)
            distances[component], same = (apart if math.isfinite(apart) else None), matches(base[component], made_for)
        if not same:
            other.append(component)
    return distances, other


def _shapes_apart(model: EditableModel, erasure: Erasure, component: str) -> str:
    """The first tensor of a component that the model has in another shape than a replace edit, in words; empty where there is none."""
    own = {canonical_name(name): tuple(tensor.shape) for name, tensor in model.components[component].named_parameters()}
    for edit in (edit for edit in erasure.edits if edit.component == component and edit.op == "replace"):
        for name, stored in edit.tensors.items():
            there, here = TensorBlob.of(erasure.tensors[stored]).shape, own.get(canonical_name(name))
            if here is not None and here != there:
                return f"its {component} is of another size ({name} is {list(here)} here, {list(there)} in the erasure)"
    return ""


def _refusal(model: EditableModel, erasure: Erasure, distances: dict[str, float | None], other: list[str]) -> str:
    first = other[0]
    written = {edit.component for edit in erasure.edits} - {SAMPLER}
    if (missing := sorted((written | set(distances)) - set(model.components) - {SAMPLER})) and set(missing) & written:
        return f"{model.name} has no {missing[0]}, which the erasure edits: it cannot be carried over"
    if first in written and distances.get(first, 0.0) is None and (shapes := _shapes_apart(model, erasure, first)):
        return f"{model.name} cannot take this erasure: {shapes}"
    if first not in distances:
        said = f"the erasure does not say which {first} it was made for"
    elif distances[first] is None:
        said = f"its {first} has another architecture than the one the erasure was made for"
    else:
        said = f"its {first} is {distances[first]:.1%} from the one the erasure was made for"
    hint = ", although what the erasure edits is the same" if written and not written & set(other) else ""
    return f"{model.name} is not the base of this erasure: {said}{hint}; force it to transfer the erasure all the same"
