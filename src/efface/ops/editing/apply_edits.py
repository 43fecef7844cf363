"""Applying each kind of edit to a model; every function registers the exact undo."""

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
from efface.models.placement import execution_device
from efface.models.tensor_names import canonical_paths, editable_tensors, resolve_tensor_name
from efface.ops.tensor_conversion import to_torch

from .active_gates import add_gate
from .feature_filter import feature_filter, is_feature_filter
from .forward_hooks import layer_hook, states_hook
from .guidance_rules import guidance_edit
from .inserted_modules import inserted_adapters
from .latent_perturbation import latent_perturbation
from .module_edits import insert_modules
from .quantized_layers import check_not_quantized, insert_beside_quantized
from .unedited import forget, remember, switchable

SAMPLER = "sampler"
"""Component name of guidance edits, which change the sampler and no weights."""

GATED = ("module", "guidance")
"""Ops whose edits can have a gate."""


def apply_edit(model: EditableModel, edit: Edit, stored: Mapping[str, Stored], undo: ExitStack) -> None:
    """Applies one edit and pushes its undo onto the stack.

    Raises:
        EffaceError: an unsupported gate, op or component, or tensors that do not fit.
    """
    if edit.gate and edit.op not in GATED:
        raise EffaceError(
            f"the {edit.op} edit of {edit.component} has a gate ({', '.join(edit.gate)}), which only edits of op "
            f"{' and '.join(GATED)} can have"
        )
    if edit.op == "guidance":
        _guidance(model, edit, undo)
        return
    if edit.component not in model.components:
        raise EffaceError(f"the erasure edits {edit.component}; {model.name} has {', '.join(model.components)}")
    module = model.components[edit.component]
    tensors = {role: to_torch(stored[name]) for role, name in edit.tensors.items()}
    if edit.op == "module":
        device = execution_device(module)
        tensors = {role: tensor.to(device) for role, tensor in tensors.items()}
        insert_modules(module, edit, tensors, add_gate(model, edit.gate, undo) if edit.gate else None, undo)
        return
    _HANDLERS[edit.op](module, edit, tensors, undo)


def _guidance(model: EditableModel, edit: Edit, undo: ExitStack) -> None:
    """Adds a guidance rule to the model's sampler."""
    if edit.component != SAMPLER:
        raise EffaceError(f"a guidance edit belongs to the component {SAMPLER!r}, not {edit.component!r}")
    if edit.params.get("rule") == "irece":
        perturbation, latent_edits = latent_perturbation(model, edit.params), model.latent_edits
        latent_edits.append(perturbation)
        undo.callback(latent_edits.remove, perturbation)
        return
    gate = add_gate(model, edit.gate, undo) if edit.gate else None
    rule, rules = guidance_edit(edit.params, gate), model.guidance_edits
    if rule.adapter and rule.adapter not in inserted_adapters(model.components):
        raise EffaceError(
            f"the guidance edit needs the adapter {rule.adapter!r}, which no edit before it inserts: the erasure is "
            "incomplete"
        )
    rules.append(rule)
    undo.callback(_discard, rules, rule)  # the callback holds the list: a reference to the model would keep it alive


def _discard(rules: list[GuidanceEdit], rule: GuidanceEdit) -> None:
    rules[:] = [other for other in rules if other is not rule]


def _replace(module: nn.Module, edit: Edit, tensors: Mapping[str, Tensor], undo: ExitStack) -> None:
    """W <- T, cast to the model's dtype."""
    _check_params(edit)
    for target, (name, parameter) in _targets(module, tensors).items():
        check_not_quantized(name, parameter)
        if tensors[target].shape != parameter.shape:
            raise EffaceError(
                f"tensor {name!r} is {list(parameter.shape)} in the model, {list(tensors[target].shape)} in the erasure"
            )
        _write(parameter, tensors[target].to(parameter.device, parameter.dtype), undo)


def _low_rank(module: nn.Module, edit: Edit, tensors: Mapping[str, Tensor], undo: ExitStack) -> None:
    """W <- W + scale (up down), computed in float32 at least; down ``(r, ...)``, up ``(o, r)`` or ``(o, r, 1, 1)``."""
    scale = float(_check_params(edit, scale=1.0)["scale"])
    written = edit.targets - insert_beside_quantized(module, edit.targets, tensors, scale, undo)
    for target, (name, parameter) in _targets(module, written).items():
        down, up = (tensors[f"{target}.{end}"].flatten(1) for end in ("down", "up"))
        if (
            up.shape[1] != down.shape[0]
            or up.shape[0] * down.shape[1] != parameter.numel()
            or up.shape[0] != parameter.shape[0]
        ):
            raise EffaceError(
                f"the low-rank factors {list(up.shape)} x {list(down.shape)} do not fit {name!r}, "
                f"which is {list(parameter.shape)}"
            )
        compute_dtype = torch.promote_types(parameter.dtype, torch.float32)
        product = (up.to(parameter.device, compute_dtype) @ down.to(parameter.device, compute_dtype)).view_as(parameter)
        _write(parameter, (parameter.to(compute_dtype) + scale * product).to(parameter.dtype), undo)


def _state(module: nn.Module, edit: Edit, tensors: Mapping[str, Tensor], undo: ExitStack) -> None:
    """H <- H M^T + b on hidden states ``(B, L, D)``, with M ``(D, D)`` and b ``(D,)``; the pooled state is unchanged.

    H is the output of a text encoder, the text input of a denoiser, or the state behind ``layer`` of a language model.
    With an autoencoder's tensors it is a feature filter instead (`efface.ops.editing.feature_filter`).
    """
    if is_feature_filter(tensors):
        settings = _check_params(edit, layer=-1, scale=1.0, normalizes=False)
        change = feature_filter(tensors, float(settings["scale"]), bool(settings["normalizes"]))
    else:
        settings = _check_params(edit, layer=-1)
        change = _affine_map(tensors)
    layer = int(settings["layer"])
    change = switchable(module, change)
    handle = states_hook(module, change) if layer < 0 else layer_hook(module, layer, change)
    undo.callback(handle.remove)


def _affine_map(tensors: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """Returns H <- H M^T + b.

    Raises:
        EffaceError: tensors that do not fit together.
    """
    if not tensors or set(tensors) - {"matrix", "bias"}:
        raise EffaceError(f"a state edit has the tensors matrix and bias, not {', '.join(sorted(tensors)) or 'none'}")
    width = next(iter(tensors.values())).shape[-1]
    matrix, bias = tensors.get("matrix", torch.eye(width)), tensors.get("bias", torch.zeros(width))
    if matrix.shape != (width, width) or bias.shape != (width,):
        raise EffaceError(
            f"a state edit needs a square matrix and a bias of the same width, "
            f"not {list(matrix.shape)} and {list(bias.shape)}"
        )

    def change(states: Tensor) -> Tensor:
        return nn.functional.linear(states, matrix.to(states), bias.to(states))

    return change


_HANDLERS: dict[str, Callable[[nn.Module, Edit, Mapping[str, Tensor], ExitStack], None]] = {
    "replace": _replace,
    "low_rank": _low_rank,
    "state": _state,
}


def _targets(module: nn.Module, names: Mapping[str, Any] | frozenset[str]) -> dict[str, tuple[str, Tensor]]:
    """Maps each name in the erasure to the model's canonical name and its parameter or running statistic."""
    paths, parameters = canonical_paths(module, buffers=True), editable_tensors(module)
    resolved = {name: resolve_tensor_name(name, paths) for name in sorted(names)}
    if len(set(resolved.values())) < len(resolved):
        raise CorruptArtifactError("the erasure writes one tensor twice in one edit, under two names")
    return {name: (target, parameters[paths[target]]) for name, target in resolved.items()}


def _write(parameter: Tensor, value: Tensor, undo: ExitStack) -> None:
    """Writes a parameter in place, so that every reference sees the change; the undo copies the old bytes back."""
    before = parameter.detach().clone()
    remember(parameter, before)
    undo.callback(forget, parameter)
    undo.callback(_copy, parameter, before)
    _copy(parameter, value)


@torch.no_grad()
def _copy(parameter: Tensor, value: Tensor) -> None:
    parameter.copy_(value)


def _check_params(edit: Edit, **known: float) -> dict[str, Any]:
    """Returns an edit's settings with defaults; raises `EffaceError` for unknown ones, which must not be ignored."""
    if unknown := sorted(set(edit.params) - set(known)):
        raise EffaceError(
            f"the {edit.op} edit of {edit.component} has settings "
            f"that this version of efface does not know: {', '.join(unknown)}"
        )
    return {**known, **edit.params}
