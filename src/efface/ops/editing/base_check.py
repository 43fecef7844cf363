"""Compares a model with the base that an erasure was made for."""

from __future__ import annotations

import math
from typing import Any

from efface.core.erasure import Erasure
from efface.core.errors import BaseModelMismatchError
from efface.core.tensors import TensorBlob
from efface.models.editable import EditableModel
from efface.models.fingerprint import distance, matches
from efface.models.tensor_names import canonical_name

from .apply_edits import SAMPLER


def check_base(
    model: EditableModel, erasure: Erasure, base: dict[str, Any] | None = None, allow_base_mismatch: bool = False
) -> tuple[dict[str, float | None], list[str]]:
    """Compares the erasure with the model's fingerprint and returns what `compare_bases` returns.

    Args:
        model: the model to edit.
        erasure: the erasure.
        base: the model's fingerprint; computed by default.
        allow_base_mismatch: do not raise if a component differs.

    Raises:
        BaseModelMismatchError: the model is not the base that the erasure was made for.
    """
    distances, mismatched = compare_bases(erasure, model.fingerprint() if base is None else base)
    if mismatched and not allow_base_mismatch:
        raise BaseModelMismatchError(_mismatch_message(model, erasure, distances, mismatched))
    return distances, mismatched


def compare_bases(erasure: Erasure, base: dict[str, Any]) -> tuple[dict[str, float | None], list[str]]:
    """Returns the distance of a base's components from the erasure's, and the components that differ.

    A component that an edit writes counts as different if the erasure holds no fingerprint of it.
    """
    distances: dict[str, float | None] = {}
    mismatched = sorted({edit.component for edit in erasure.edits} - set(erasure.spec.base) - {SAMPLER})
    for component, expected in erasure.spec.base.items():
        distances[component] = None
        if component not in base or not isinstance(expected, dict):
            mismatched.append(component)
            continue
        value = distance(base[component], expected)
        if math.isfinite(value):
            distances[component] = value
        if not matches(base[component], expected):
            mismatched.append(component)
    return distances, mismatched


def _shape_mismatch(model: EditableModel, erasure: Erasure, component: str) -> str:
    """Describes the first tensor of a replace edit that has another shape in the model; empty if there is none."""
    shapes = {canonical_name(n): tuple(tensor.shape) for n, tensor in model.components[component].named_parameters()}
    for edit in (edit for edit in erasure.edits if edit.component == component and edit.op == "replace"):
        for name, stored_name in edit.tensors.items():
            stored = TensorBlob.of(erasure.tensors[stored_name]).shape
            own = shapes.get(canonical_name(name))
            if own is not None and own != stored:
                return f"its {component} has another size ({name} is {list(own)} here, {list(stored)} in the erasure)"
    return ""


def _mismatch_message(
    model: EditableModel, erasure: Erasure, distances: dict[str, float | None], mismatched: list[str]
) -> str:
    first = mismatched[0]
    written = {edit.component for edit in erasure.edits} - {SAMPLER}
    missing = sorted((written | set(distances)) - set(model.components) - {SAMPLER})
    if set(missing) & written:
        return f"{model.name} has no {missing[0]}, which the erasure edits: the erasure cannot be transferred"
    if first in written and distances.get(first, 0.0) is None and (shapes := _shape_mismatch(model, erasure, first)):
        return f"{model.name} cannot take this erasure: {shapes}"
    if first not in distances:
        reason = f"the erasure does not record which {first} it was made for"
    elif distances[first] is None:
        reason = f"its {first} has another architecture than the one the erasure was made for"
    else:
        reason = f"its {first} is {distances[first]:.1%} from the one the erasure was made for"
    hint = ", although the components that the erasure edits match" if written and not written & set(mismatched) else ""
    return (
        f"{model.name} is not the base of this erasure: {reason}{hint}; "
        "pass --allow-base-mismatch (allow_base_mismatch=True) to transfer it nevertheless"
    )
