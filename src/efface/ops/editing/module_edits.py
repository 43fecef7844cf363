"""Applying ``module`` edits: checks their tensors, and inserts the modules."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from math import prod
from typing import Any

from torch import Tensor, nn

from efface.core.edits import Edit
from efface.core.errors import EffaceError, UnknownNameError, check_known_keys
from efface.models.guidance_hooks import PromptGate
from efface.models.quantization import matrix_shape

from .autoencoder import insert_autoencoder
from .inserted_modules import inserted_modules, resolve_layer
from .row_strengths import KINDS, ROLES, Insertion

_SETTINGS = ("kind", "scale", "transport", "adapter", "active", "strength", "threshold")


def insert_modules(
    component: nn.Module, edit: Edit, tensors: Mapping[str, Tensor], gate: PromptGate | None, undo: ExitStack
) -> None:
    """Inserts the modules of an edit until ``undo`` is closed.

    Args:
        component: the component to insert them into.
        edit: its ``params`` hold the ``kind`` and the kind's settings.
        tensors: by role, ``<layer>.<tensor>`` (see `row_strengths.ROLES`).
        gate: strength of the modules by prompt; None for 1.
        undo: receives the removal.

    Raises:
        EffaceError: an unknown kind or setting, a layer that the model lacks, or tensors that do not fit it.
    """
    kind = str(edit.params.get("kind", ""))
    if kind not in KINDS:
        raise UnknownNameError("kind of module", kind, KINDS)
    check_known_keys("setting of a module edit", edit.params, _SETTINGS)
    layers: dict[str, dict[str, Tensor]] = {}
    for name, own in group_by_layer(tensors, kind).items():
        path = resolve_layer(component, name, f"{_article(kind)} in {edit.component}")
        _CHECKS[kind](component.get_submodule(path), name, own)
        layers[path] = own
    if kind == "autoencoder":
        insert_autoencoder(component, layers, edit.params, undo)
        return
    params: Mapping[str, Any] = edit.params
    transport = str(params.get("transport", "sum"))
    if transport not in ("sum", "product"):
        raise UnknownNameError("form of transport", transport, ("sum", "product"))
    insertion = Insertion(kind, float(params.get("scale", 1.0)), transport, str(params.get("adapter", "")), gate)
    insert(component, insertion, layers, undo)


def insert(
    component: nn.Module, insertion: Insertion, layers: Mapping[str, Mapping[str, Tensor]], undo: ExitStack
) -> None:
    """Inserts modules by the layers' paths until ``undo`` is closed."""
    modules = inserted_modules(component)
    modules.add(component, insertion, layers)
    undo.callback(modules.remove, insertion)


def group_by_layer(tensors: Mapping[str, Tensor], kind: str) -> dict[str, dict[str, Tensor]]:
    """Groups the tensors of a module edit by layer, and by the part of the role after the layer's name.

    Raises:
        EffaceError: roles that do not fit the kind.
    """
    layers: dict[str, dict[str, Tensor]] = {}
    for role, tensor in tensors.items():
        end = next((end for end in ROLES[kind] if role.endswith(f".{end}")), None)
        if end is None:
            raise EffaceError(f"{_article(kind)} has the tensors {', '.join(ROLES[kind])}, not {role!r}")
        layers.setdefault(role.removesuffix(f".{end}"), {})[end] = tensor
    for name, own in layers.items():
        if missing := sorted(set(ROLES[kind]) - set(own)):
            raise EffaceError(f"the {kind} at {name!r} lacks {', '.join(missing)}: the erasure is incomplete")
    return layers


def check_membrane(layer: nn.Module, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Raises `EffaceError` if the factors ``down`` and ``up`` do not fit a layer."""
    weight = getattr(layer, "weight", None)
    if not isinstance(layer, nn.Linear | nn.Conv2d) or weight is None:
        raise EffaceError(f"the erasure inserts a membrane at {name!r}, which is neither linear nor a convolution")
    down, up, shape = tensors["down"].flatten(1), tensors["up"].flatten(1), matrix_shape(layer, weight)
    if down.shape[1] != prod(shape[1:]) or up.shape[0] != shape[0] or up.shape[1] != len(down):
        raise EffaceError(
            f"the membrane {list(up.shape)} x {list(down.shape)} does not fit {name!r}, which is {list(shape)}"
        )


def _check_eraser(layer: nn.Module, name: str, tensors: Mapping[str, Tensor]) -> None:
    linear = [part for part in layer.modules() if isinstance(part, nn.Linear)]
    width = linear[-1].out_features if linear else 0
    rank = len(tensors["down.bias"])
    shapes = {"down.weight": (rank, width), "up.weight": (width, rank), "up.bias": (width,)}
    for end, shape in shapes.items():
        if tensors[end].shape != shape:
            raise EffaceError(f"the eraser at {name!r} has a width of {tensors['up.bias'].shape[0]}, the layer {width}")


def _check_autoencoder(layer: nn.Module, name: str, tensors: Mapping[str, Tensor]) -> None:
    norms = [part for part in layer.modules() if isinstance(part, nn.LayerNorm)]
    width, own = (norms[0].normalized_shape[0] if norms else 0), tensors["decoder_bias"].shape[0]
    if own != width:
        raise EffaceError(
            f"the autoencoder at {name!r} has a width of {own}, the text encoder {width}: use one that was trained on "
            "this text encoder"
        )


_CHECKS = {"membrane": check_membrane, "eraser": _check_eraser, "autoencoder": _check_autoencoder}


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "ae" else f"a {kind}"
