"""Which tensors an edited checkpoint changes, by how much, and the changes as edits of an erasure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from efface.core.edits import Edit
from efface.core.errors import EffaceError
from efface.core.tensors import TensorBlob
from efface.models.editable import EditableModel
from efface.models.tensor_names import canonical_paths, canonical_state
from efface.ops.tensor_conversion import to_blob


@dataclass(frozen=True)
class TensorChange:
    """One changed tensor.

    Attributes:
        component: component of the model, such as ``unet``.
        name: canonical name of the tensor.
        relative_norm: Frobenius norm of the change, divided by that of the base's tensor.
        max_change: largest absolute change of one value.
        rank: smallest rank that holds 99.9 % of the change's squared norm; None for tensors that are no matrices.
    """

    component: str
    name: str
    relative_norm: float
    max_change: float
    rank: int | None


def changed_tensors(base: EditableModel, edited: EditableModel) -> dict[str, dict[str, Tensor]]:
    """Returns the edited model's tensors that differ from the base's, by component and canonical name.

    Raises:
        EffaceError: another architecture, or no tensor differs.
    """
    changed: dict[str, dict[str, Tensor]] = {}
    if base.family != edited.family or base.components.keys() != edited.components.keys():
        raise EffaceError(
            f"{edited.name} ({edited.family}) is of another architecture than {base.name} ({base.family})"
        )
    for component in base.components:
        before, after = (canonical_state(model.components[component]) for model in (base, edited))
        _check_same_shapes(base, edited, component, before, after)
        known = canonical_paths(base.components[component])
        different = {
            name: after[name]
            for name in known
            if name in after and not torch.equal(before[name], after[name].to(before[name]))
        }
        if different:
            changed[component] = different
    if not changed:
        raise EffaceError(f"{edited.name} equals {base.name} in every tensor: there is nothing to audit")
    return changed


def _check_same_shapes(
    base: EditableModel,
    edited: EditableModel,
    component: str,
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
) -> None:
    text = f"{edited.name} is of another architecture than {base.name}: in {component},"
    for name in sorted(before.keys() ^ after.keys()):
        raise EffaceError(f"{text} only one of them has the tensor {name!r}")
    for name, tensor in before.items():
        if tensor.shape != after[name].shape:
            raise EffaceError(f"{text} {name!r} is {tuple(after[name].shape)} instead of {tuple(tensor.shape)}")


@torch.no_grad()
def measure_changes(base: EditableModel, changed: Mapping[str, Mapping[str, Tensor]]) -> list[TensorChange]:
    """Returns all changes, the largest relative one first."""
    rows = []
    for component, tensors in changed.items():
        state = canonical_state(base.components[component])
        for name, tensor in tensors.items():
            old = state[name].float().cpu()
            delta = tensor.float().cpu() - old
            relative = float(delta.norm() / old.norm().clamp(min=1e-12))
            rows.append(TensorChange(component, name, relative, float(delta.abs().max()), _rank(delta)))
    return sorted(rows, key=lambda row: -row.relative_norm)


def _rank(delta: Tensor) -> int | None:
    if delta.ndim < 2:
        return None
    energy = torch.linalg.svdvals(delta.flatten(1)).square().cumsum(0)
    return int((energy < 0.999 * energy[-1]).sum()) + 1


def to_edits(changed: Mapping[str, Mapping[str, Tensor]]) -> tuple[list[Edit], dict[str, TensorBlob]]:
    """Returns ``replace`` edits that turn the base into the edited model, and their tensors."""
    edits = [
        Edit(component, "replace", {name: f"{component}.{name}" for name in tensors})
        for component, tensors in changed.items()
    ]
    blobs = {
        f"{c}.{name}": to_blob(tensor.detach()) for c, tensors in changed.items() for name, tensor in tensors.items()
    }
    return edits, blobs
