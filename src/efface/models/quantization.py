"""Quantized linear layers of bitsandbytes and torchao: how to tell them, and the values of their weights.

Such a layer computes with codes, which no gradient and no edit reaches. A LoRA acts beside it, through a hook.
bitsandbytes keeps the codes of 4 bits packed, so that shapes come from the layer, not from its weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from efface.core.errors import EffaceError

from .parameter_groups import ParameterGroup, select_parameters
from .tensor_names import canonical_name, canonical_state


def is_quantized(layer: nn.Module) -> bool:
    """Returns whether a layer holds its weight as integers or codes, or packed behind a method."""
    weight = getattr(layer, "weight", None)
    is_packed = callable(weight) and not isinstance(weight, nn.Module)
    own = [weight] if isinstance(weight, Tensor) else []
    return is_packed or any(map(holds_codes, [*own, *layer.parameters(recurse=False)]))


def holds_codes(parameter: Tensor) -> bool:
    """Returns whether a parameter holds integers or codes in place of its values."""
    return not parameter.is_floating_point() or _library(parameter) == "torchao"


def has_quantized_layers(component: nn.Module) -> bool:
    """Returns whether any layer of a component is quantized."""
    return any(map(is_quantized, component.modules()))


def matrix_shape(layer: nn.Module, weight: Tensor) -> tuple[int, ...]:
    """Returns the shape of a layer's weight, ``(o, i)`` or ``(o, i, h, w)``, whatever form it is stored in."""
    return (layer.out_features, layer.in_features) if isinstance(layer, nn.Linear) else tuple(weight.shape)


def matrix_group(model: Any, role: str) -> ParameterGroup:
    """Returns the parameters of a role whose weights stay as they are, so that they may be quantized.

    Raises:
        EffaceError: no such role, or weights that are not the model's own.
    """
    if any(map(has_quantized_layers, model.components.values())):
        return select_parameters(model.components, role)
    group: ParameterGroup = model.parameter_group(role)
    return group


def dequantized_weight(layer: Any) -> Tensor:
    """Returns the values of a quantized layer's weight, ``(o, i)``.

    Raises:
        EffaceError: another library than bitsandbytes or torchao quantized the layer.
    """
    weight = getattr(layer, "weight", None)
    if isinstance(layer, nn.Linear) and _library(weight) == "torchao":
        values: Tensor = weight.dequantize()  # type: ignore[union-attr]
        return values
    if isinstance(layer, nn.Linear) and _library(weight) == "bitsandbytes":
        from diffusers.quantizers.bitsandbytes.utils import dequantize_bnb_weight

        from .pipeline import silence_libraries

        with silence_libraries():
            return dequantize_bnb_weight(weight, getattr(layer, "state", None)).detach()
    raise EffaceError(
        f"the pipeline has quantized weights of a kind that is not supported ({type(layer).__name__}): quantize with "
        "bitsandbytes or torchao"
    )


def dequantized_state(module: nn.Module) -> Mapping[str, Tensor]:
    """Returns `canonical_state` with the values of quantized weights, and without their scales and codes.

    Raises:
        EffaceError: another library than bitsandbytes or torchao quantized a layer.
    """
    layers = {f"{canonical_name(path)}.weight": layer for path, layer in module.named_modules() if is_quantized(layer)}
    if not layers:
        return canonical_state(module)
    values = {name: dequantized_weight(layer) for name, layer in layers.items()}
    plain = {name: tensor for name, tensor in canonical_state(module).items() if not name.startswith(tuple(layers))}
    return dict(sorted({**plain, **values}.items()))


def _library(weight: object) -> str:
    """Returns the package that defines a weight's class."""
    return type(weight).__module__.split(".")[0]
