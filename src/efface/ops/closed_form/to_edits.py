"""Conversion of a closed-form solution to an erasure's edits."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from efface.core.edits import Edit
from efface.core.errors import EffaceError, UnknownNameError
from efface.core.tensors import TensorBlob
from efface.models.editable import EditableModel
from efface.models.float32_weights import float32_group
from efface.models.parameter_groups import ParameterGroup
from efface.ops.tensor_conversion import to_blob

from .low_rank import LowRankUpdate

EDIT_FORMATS = ("low_rank", "filter")
"""``low_rank``: an exact LoRA of every layer; ``filter``: a linear map of the states before the denoiser reads them."""
DOWN_TENSOR = "closed_form.down"
"""Name of C, the LoRA's ``down`` that all layers share."""
LEFT_TENSOR = "closed_form.left"
"""Name of U, with which C gives the filter I + U C."""
MATRIX_TENSOR = "closed_form.matrix"
"""Name of a filter's matrix I + E."""


def low_rank_edit(
    update: LowRankUpdate, group: ParameterGroup, *, shared: bool, dtype: torch.dtype = torch.float32
) -> tuple[Edit, dict[str, TensorBlob]]:
    """Returns the update as a LoRA of every layer of a parameter group, with one ``down`` for all of them.

    Args:
        update: E.
        group: the layers.
        shared: whether the group is every layer that reads the text; U is then saved as well, so that the erasure is
            also a filter of prompts.
        dtype: dtype of the saved tensors.
    """
    compact = update.compact()
    tensors = {DOWN_TENSOR: to_blob(compact.right.to(dtype))}
    if shared:
        tensors[LEFT_TENSOR] = to_blob(compact.left.to(dtype))
    tensor_names: dict[str, str] = {}
    for name, weight in group.parameters.items():
        up_name = f"{group.component}.{name}.up"
        tensor_names[f"{name}.down"] = DOWN_TENSOR
        tensor_names[f"{name}.up"] = up_name
        tensors[up_name] = to_blob(compact.lora_up(weight).to(dtype))
    return Edit(group.component, "low_rank", tensor_names), tensors


def layered_edit(
    updates: Mapping[str, LowRankUpdate], group: ParameterGroup, dtype: torch.dtype = torch.float32
) -> tuple[Edit, dict[str, TensorBlob]]:
    """Returns a LoRA with a separate update for every layer of a parameter group, by canonical name."""
    tensor_names: dict[str, str] = {}
    tensors: dict[str, TensorBlob] = {}
    for name, weight in group.parameters.items():
        compact = updates[name].compact()
        for end, tensor in (("down", compact.right), ("up", compact.lora_up(weight))):
            tensor_names[f"{name}.{end}"] = f"{group.component}.{name}.{end}"
            tensors[f"{group.component}.{name}.{end}"] = to_blob(tensor.to(dtype))
    return Edit(group.component, "low_rank", tensor_names), tensors


def smallest_exact_edits(
    deltas: Mapping[str, Tensor], group: ParameterGroup, dtype: torch.dtype = torch.float32
) -> tuple[list[Edit], dict[str, TensorBlob]]:
    """Returns the change of each layer in the smaller of two exact forms.

    A change ``(o, d)`` of rank r below ``o d / (o + d)`` is stored as the factors of its singular value decomposition,
    without singular values below float32's rounding. Otherwise the edited weight itself is smaller.

    Args:
        deltas: W' - W of each layer by canonical name.
        group: the layers.
        dtype: dtype of the saved tensors.
    """
    factored: dict[str, str] = {}
    replaced: dict[str, str] = {}
    tensors: dict[str, TensorBlob] = {}
    for name, weight in group.parameters.items():
        update, key = LowRankUpdate.from_dense(deltas[name], 1e-9), f"{group.component}.{name}"
        if update.rank * sum(weight.shape) < weight.numel():
            for end, tensor in (("down", update.right), ("up", update.left)):
                factored[f"{name}.{end}"] = f"{key}.{end}"
                tensors[f"{key}.{end}"] = to_blob(tensor.to(dtype))
        else:
            replaced[name] = key
            tensors[key] = to_blob((weight.detach().double().cpu() + deltas[name]).to(dtype))
    names_by_op = {"low_rank": factored, "replace": replaced}
    return [Edit(group.component, op, names) for op, names in names_by_op.items() if names], tensors


def edited_weights(model: EditableModel, update: LowRankUpdate, role: str = "cross_kv") -> dict[str, Tensor]:
    """Returns W (I + E) of a role's layers, in their dtype, as ``params`` for `predict`."""
    group, matrix = model.parameter_group(role), update.matrix()
    with torch.no_grad():
        return group.as_params(
            {name: (w.double() @ matrix.to(w.device)).to(w.dtype) for name, w in group.parameters.items()}
        )


def to_edit(
    model: EditableModel,
    update: LowRankUpdate,
    role: str,
    edit_format: str = "low_rank",
    dtype: torch.dtype = torch.float32,
) -> tuple[Edit, dict[str, TensorBlob]]:
    """Returns the edit of a role's layers in one of `EDIT_FORMATS`.

    Args:
        model: the model to edit.
        update: E.
        role: parameter group of the layers.
        edit_format: one of `EDIT_FORMATS`.
        dtype: dtype of the saved tensors.

    Raises:
        UnknownNameError: an unknown format.
        EffaceError: a filter for a part of the layers that read the text.
    """
    group, readers = float32_group(model, role), model.parameter_group("reads_text")
    shared = set(group.parameters) == set(readers.parameters)
    if edit_format not in EDIT_FORMATS:
        raise UnknownNameError("edit format", edit_format, EDIT_FORMATS)
    if edit_format == "low_rank":
        return low_rank_edit(update, group, shared=shared, dtype=dtype)
    if not shared:
        raise EffaceError(
            f"{role} is only a part of the layers that read the text, all of which a filter would change: "
            "use edit_format=low_rank"
        )
    tensors = {MATRIX_TENSOR: to_blob(update.matrix().to(dtype))}
    return Edit(group.component, "state", {"matrix": MATRIX_TENSOR}), tensors
