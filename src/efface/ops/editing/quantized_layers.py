"""Low-rank edits of quantized layers, whose weights cannot be written: the factors act beside the layer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack

from torch import Tensor, nn

from efface.core.errors import EffaceError
from efface.models.quantization import has_quantized_layers, holds_codes, is_quantized
from efface.models.tensor_names import canonical_paths, resolve_tensor_name

from .module_edits import check_membrane, insert
from .row_strengths import Insertion


def insert_beside_quantized(
    module: nn.Module, targets: Collection[str], tensors: Mapping[str, Tensor], scale: float, undo: ExitStack
) -> frozenset[str]:
    """Inserts ``scale up down`` beside every quantized layer of a low-rank edit until ``undo`` is closed.

    Args:
        module: the component.
        targets: the edit's targets.
        tensors: ``<target>.down`` ``(r, i)`` and ``<target>.up`` ``(o, r)``.
        scale: the edit's scale.
        undo: receives the removal.

    Returns:
        The targets that are quantized.

    Raises:
        EffaceError: factors that do not fit a layer.
    """
    if not has_quantized_layers(module):
        return frozenset()
    paths, layers, done = canonical_paths(module), {}, set()
    for target in targets:
        path = paths[resolve_tensor_name(target, paths)].removesuffix(".weight")
        if is_quantized(layer := module.get_submodule(path)):
            layers[path] = {end: tensors[f"{target}.{end}"] for end in ("down", "up")}
            check_membrane(layer, target, layers[path])
            done.add(target)
    if layers:
        insert(module, Insertion("membrane", scale), layers, undo)
    return frozenset(done)


def check_not_quantized(name: str, parameter: Tensor) -> None:
    """Raises `EffaceError` if an edit replaces a quantized weight."""
    if holds_codes(parameter):
        raise EffaceError(
            f"the erasure replaces {name!r}, which is quantized in the model: load it in float32, bfloat16 or float16"
        )
