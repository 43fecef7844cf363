"""From an edit of what layers read to an erasure's edit, and what there is to say of the solution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from efface.core.edits import Edit
from efface.core.errors import EffaceError, UnknownNameError
from efface.core.tensors import TensorBlob
from efface.models.editable import EditableModel
from efface.models.parameter_groups import ParameterGroup
from efface.ops.tensor_conversion import to_blob

from .low_rank import LowRank
from .solve import Problem

EDIT_FORMATS = ("low_rank", "filter")
"""``low_rank``: a LoRA of every layer, exact; ``filter``: the states themselves are changed before the denoiser reads them."""
SHARED, LEFT = "closed_form.down", "closed_form.left"


@dataclass(frozen=True)
class Diagnostics:
    """How good a solution is.

    Attributes:
        condition: estimate of the condition of the system that was solved.
        rank: of E. norm: its Frobenius norm.
        residual: ``|(I + E) K - A|_F / |A - K|_F`` with the pairs' weights: 0 where every pair is met, 1 where nothing changed.
        preserved: ``|E R|_F / |R|_F`` with their weights; None where nothing is preserved.
        layers: the largest ``|W E|_F / |W|_F`` of a layer.
    """

    condition: float
    rank: int
    norm: float
    residual: float
    preserved: float | None
    layers: float

    def numbers(self) -> dict[str, float]:
        """For a log: every number that there is."""
        return {name: float(value) for name, value in vars(self).items() if value is not None}


def diagnose(problem: Problem, edit: LowRank, weights: Mapping[str, Tensor]) -> Diagnostics:
    """Measures a solution of a problem for the layers that it edits."""
    pairs, e = problem.pairs, edit.dense()
    root = pairs.weight.clamp(min=0).sqrt()
    left = (pairs.source + e @ pairs.source - pairs.anchor) * root
    asked = ((pairs.anchor - pairs.source) * root).norm()
    moment = problem.preserve.second_moment(problem.width)
    trace = float(moment.trace())
    kept = (float((e @ moment * e).sum()) / trace) ** 0.5 if trace > 0 else None
    change = max(
        (float((w.double() @ e.to(w.device)).norm() / w.double().norm()) for w in weights.values()), default=0.0
    )
    residual = float(left.norm() / asked) if float(asked) else 0.0
    return Diagnostics(problem.factor.condition, edit.rank, float(e.norm()), residual, kept, change)


def low_rank_edit(
    edit: LowRank, sites: ParameterGroup, *, shared: bool, dtype: torch.dtype = torch.float32
) -> tuple[Edit, dict[str, TensorBlob]]:  # fmt: skip
    """The edit as a LoRA of every layer of a role: ``up`` of its own, and one ``down`` for all of them, saved once.

    With ``shared``, for layers that are all that read the text, U is saved, too: the erasure is then a filter of prompts as well.
    """
    small = edit.compact()
    tensors = {SHARED: to_blob(small.right.to(dtype))} | ({LEFT: to_blob(small.left.to(dtype))} if shared else {})
    roles: dict[str, str] = {}
    for name, weight in sites.parameters.items():
        roles[f"{name}.down"], roles[f"{name}.up"] = SHARED, f"{sites.component}.{name}.up"
        tensors[roles[f"{name}.up"]] = to_blob(small.up(weight).to(dtype))
    return Edit(sites.component, "low_rank", roles), tensors


def layered_edit(
    edits: Mapping[str, LowRank], sites: ParameterGroup, dtype: torch.dtype = torch.float32
) -> tuple[Edit, dict[str, TensorBlob]]:
    """An edit of its own for every layer of a role, by canonical name, as a LoRA."""
    roles: dict[str, str] = {}
    tensors: dict[str, TensorBlob] = {}
    for name, weight in sites.parameters.items():
        small = edits[name].compact()
        for end, tensor in (("down", small.right), ("up", small.up(weight))):
            roles[f"{name}.{end}"] = f"{sites.component}.{name}.{end}"
            tensors[roles[f"{name}.{end}"]] = to_blob(tensor.to(dtype))
    return Edit(sites.component, "low_rank", roles), tensors


def smallest_exact_edits(
    deltas: Mapping[str, Tensor], sites: ParameterGroup, dtype: torch.dtype = torch.float32
) -> tuple[list[Edit], dict[str, TensorBlob]]:
    """What is added to each layer, by canonical name, in whichever exact form is the smaller.

    Where the rank r of ``(o, d)`` is below ``o d / (o + d)``, these are the factors of its singular value decomposition; above, the
    edited weight itself takes less, and is exact in the weight's precision, too. Singular values below float32's rounding do not count.
    """
    factored: dict[str, str] = {}
    whole: dict[str, str] = {}
    tensors: dict[str, TensorBlob] = {}
    for name, weight in sites.parameters.items():
        small, key = LowRank.of(deltas[name], 1e-9), f"{sites.component}.{name}"
        if small.rank * sum(weight.shape) < weight.numel():
            for end, tensor in (("down", small.right), ("up", small.left)):
                factored[f"{name}.{end}"] = f"{key}.{end}"
                tensors[f"{key}.{end}"] = to_blob(tensor.to(dtype))
        else:
            whole[name] = key
            tensors[key] = to_blob((weight.detach().double().cpu() + deltas[name]).to(dtype))
    parts = (("low_rank", factored), ("replace", whole))
    return [Edit(sites.component, op, names) for op, names in parts if names], tensors


def edited_weights(model: EditableModel, edit: LowRank, role: str = "cross_kv") -> dict[str, Tensor]:
    """W (I + E) of a role's layers, in their dtype, as the ``params`` that `predict` takes."""
    sites, matrix = model.parameter_group(role), edit.matrix()
    with torch.no_grad():
        return sites.own({name: (w.double() @ matrix.to(w.device)).to(w.dtype) for name, w in sites.parameters.items()})


def to_edit(
    model: EditableModel, edit: LowRank, sites: str, form: str = "low_rank", dtype: torch.dtype = torch.float32
) -> tuple[Edit, dict[str, TensorBlob]]:  # fmt: skip
    """The edit of a role's layers in one of `FORMS`.

    Raises:
        UnknownName: another form. EffaceError: a filter for layers that are not all that read the text.
    """
    chosen, readers = model.parameter_group(sites), model.parameter_group("reads_text")
    shared = set(chosen.parameters) == set(readers.parameters)
    if form not in EDIT_FORMATS:
        raise UnknownNameError("form", form, EDIT_FORMATS)
    if form == "low_rank":
        return low_rank_edit(edit, chosen, shared=shared, dtype=dtype)
    if not shared:
        raise EffaceError(
            f"{sites} is not all that reads the text, so that a filter would change more: use form=low_rank"
        )
    return Edit(chosen.component, "state", {"matrix": "closed_form.matrix"}), {
        "closed_form.matrix": to_blob(edit.matrix().to(dtype))
    }
