"""How each kind of edit goes onto a model; every function returns what takes it off again, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from efface.core.edits import Edit
from efface.core.errors import CorruptArtifactError, EffaceError
from efface.core.tensors import Tensor as Stored
from efface.models.editable import EditableModel
from efface.models.guidance_hooks import GuidanceEdit
from efface.models.tensor_names import canonical_paths, resolve
from efface.ops.tensor_conversion import to_torch

from .forward_hooks import states_hook
from .guidance_rules import guidance_edit

SAMPLER = "sampler"


def apply_edit(model: EditableModel, edit: Edit, stored: Mapping[str, Stored], undo: ExitStack) -> None:
    """Applies one edit and pushes what undoes it.

    Raises:
        EffaceError: a gate, an op or a component that this version cannot apply, or tensors that do not fit.
    """
    if edit.gate:
        raise EffaceError(
            f"the {edit.op} edit of {edit.component} has a gate ({', '.join(edit.gate)}), which this efface cannot apply"
        )
    if edit.op == "guidance":
        _guidance(model, edit, undo)
        return
    if edit.component not in model.components:
        raise EffaceError(f"the erasure edits {edit.component}; {model.name} has {', '.join(model.components)}")
    handler = _HANDLERS.get(edit.op)
    if handler is None:
        raise EffaceError(f"this efface cannot apply {edit.op} edits: use a newer one")
    handler(
        model.components[edit.component],
        edit,
        {role: to_torch(stored[name]) for role, name in edit.tensors.items()},
        undo,
    )


def _guidance(model: EditableModel, edit: Edit, undo: ExitStack) -> None:
    if edit.component != SAMPLER:
        raise EffaceError(f"a guidance edit belongs to the component {SAMPLER!r}, not {edit.component!r}")
    rule, held = guidance_edit(edit.params), model.guidance_edits
    held.append(rule)
    undo.callback(_drop, held, rule)  # not the model, which the undo would keep alive


def _drop(held: list[GuidanceEdit], rule: GuidanceEdit) -> None:
    held[:] = [other for other in held if other is not rule]


def _replace(module: nn.Module, edit: Edit, tensors: Mapping[str, Tensor], undo: ExitStack) -> None:
    """W <- T, cast to the model's dtype."""
    _check_params(edit)
    for target, (name, parameter) in _targets(module, tensors).items():
        if tensors[target].shape != parameter.shape:
            raise EffaceError(
                f"tensor {name!r} is {list(parameter.shape)} in the model, {list(tensors[target].shape)} in the erasure"
            )
        _write(parameter, tensors[target].to(parameter.device, parameter.dtype), undo)


def _low_rank(module: nn.Module, edit: Edit, tensors: Mapping[str, Tensor], undo: ExitStack) -> None:
    """W <- W + scale (up down), computed in float32 at least; down ``(r, ...)``, up ``(o, r)`` or ``(o, r, 1, 1)``."""
    scale = float(_check_params(edit, scale=1.0)["scale"])
    for target, (name, parameter) in _targets(module, edit.targets).items():
        down, up = (tensors[f"{target}.{end}"].flatten(1) for end in ("down", "up"))
        if (
            up.shape[1] != down.shape[0]
            or up.shape[0] * down.shape[1] != parameter.numel()
            or up.shape[0] != parameter.shape[0]
        ):
            raise EffaceError(
                f"the low-rank factors {list(up.shape)} x {list(down.shape)} do not fit {name!r}, {list(parameter.shape)}"
            )
        wide = torch.promote_types(parameter.dtype, torch.float32)
        product = (up.to(parameter.device, wide) @ down.to(parameter.device, wide)).view_as(parameter)
        _write(parameter, (parameter.to(wide) + scale * product).to(parameter.dtype), undo)


def _state(module: nn.Module, edit: Edit, tensors: Mapping[str, Tensor], undo: ExitStack) -> None:
    """H <- H M^T + b on hidden states ``(B, L, D)``, with M ``(D, D)`` and b ``(D,)``; the pooled state stays.

    Of a text encoder these are the states that it gives, of a denoiser those that it reads.
    """
    _check_params(edit)
    if not tensors or set(tensors) - {"matrix", "bias"}:
        raise EffaceError(f"a state edit has the tensors matrix and bias, not {', '.join(sorted(tensors)) or 'none'}")
    width = next(iter(tensors.values())).shape[-1]
    matrix, bias = tensors.get("matrix", torch.eye(width)), tensors.get("bias", torch.zeros(width))
    if matrix.shape != (width, width) or bias.shape != (width,):
        raise EffaceError(
            f"a state edit needs a square matrix and a bias as wide, not {list(matrix.shape)} and {list(bias.shape)}"
        )

    def change(states: Tensor) -> Tensor:
        return nn.functional.linear(states, matrix.to(states), bias.to(states))

    undo.callback(states_hook(module, change).remove)


_HANDLERS: dict[str, Callable[[nn.Module, Edit, Mapping[str, Tensor], ExitStack], None]] = {
    "replace": _replace,
    "low_rank": _low_rank,
    "state": _state,
}


def _targets(module: nn.Module, names: Mapping[str, Any] | frozenset[str]) -> dict[str, tuple[str, nn.Parameter]]:
    """From a name in the erasure to the model's canonical name and parameter."""
    paths, own = canonical_paths(module), dict(module.named_parameters())
    found = {name: resolve(name, paths) for name in sorted(names)}
    if len(set(found.values())) < len(found):
        raise CorruptArtifactError("the erasure writes one tensor twice in one edit, under two names")
    return {name: (target, own[paths[target]]) for name, target in found.items()}


def _write(parameter: nn.Parameter, value: Tensor, undo: ExitStack) -> None:
    """Writes in place, so that whoever holds the parameter sees it; a copy of the old bytes takes it back."""
    before = parameter.detach().clone()
    undo.callback(_copy, parameter, before)
    _copy(parameter, value)


@torch.no_grad()
def _copy(parameter: nn.Parameter, value: Tensor) -> None:
    parameter.copy_(value)


def _check_params(edit: Edit, **known: float) -> dict[str, Any]:
    """An edit's numbers, with defaults; what is not known must not be ignored."""
    if unknown := sorted(set(edit.params) - set(known)):
        raise EffaceError(
            f"the {edit.op} edit of {edit.component} has settings that this efface does not know: {', '.join(unknown)}"
        )
    return {**known, **edit.params}
