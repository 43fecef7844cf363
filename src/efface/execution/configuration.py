"""Configuration and model support of a registered method or attack, read from its module."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from efface.core.config import build_config, resolve_preset
from efface.core.errors import EffaceError
from efface.core.method_card import KINDS_OF_MODEL, MethodCard
from efface.core.registry import METHODS
from efface.models.editable import EditableModel
from efface.models.model_ref import base_bundled_model
from efface.models.quantization import has_quantized_layers

OUT_OF_MEMORY_HINT = (
    "lower the batch size and whatever else runs at once (--set batch_size=1), "
    "or choose a smaller dtype (--dtype bfloat16)"
)
"""What a user can do when a run exceeds the device's memory."""


def resolve_config(
    function: object, preset: str | None, model: str, overrides: Mapping[str, Any], family: str = ""
) -> tuple[Any, str]:
    """Builds the configuration of a registered function from ``Config`` and ``PRESETS`` in its module.

    Args:
        function: A registered method or attack.
        preset: Name of a preset; None selects the model's own, else its family's, else ``paper``.
        model: Name of the model.
        overrides: Values that replace the preset's, by field.
        family: The model's family, such as ``flux``.

    Returns:
        The configuration and the name of the preset.

    Raises:
        UnknownNameError: Unknown preset or field.
        EffaceError: A value of the wrong type.
    """
    module: Any = _module_of(function)
    preset = resolve_preset(module.PRESETS, preset, base_bundled_model(model), family)
    return build_config(module.Config, module.PRESETS, preset, overrides), preset


def check_family(function: Any, model: EditableModel) -> None:
    """Checks that a method or attack supports the model's family, as its module's ``CARD`` states.

    Raises:
        EffaceError: The family is not supported.
    """
    card = find_card(function)
    if card is not None and model.family not in card.families:
        supported = ", ".join(KINDS_OF_MODEL.get(name, name) for name in card.families)
        raise EffaceError(
            f"{card.name} does not support {model.family} models such as {model.name}: it supports {supported}"
        )


def check_quantized(function: Any, model: Any) -> None:
    """Checks that a method works on a model with quantized weights, if the model has any.

    Raises:
        EffaceError: It does not.
    """
    card = find_card(function)
    if card is None or card.quantized:
        return
    for name, module in getattr(model, "components", {}).items():
        if has_quantized_layers(module):
            cards = [METHODS.card(other) for other in METHODS.names()]
            able = " or ".join(other.name for other in cards if other.quantized and model.family in other.families)
            raise EffaceError(
                f"{card.name} trains or edits weights, and {model.name}'s {name} is quantized: load it in float32, "
                f"bfloat16 or float16, or choose --method {able}"
            )


def find_card(function: Any) -> MethodCard | None:
    """Returns the ``CARD`` in a method's or attack's module; a user's own function may have none."""
    card: MethodCard | None = getattr(_module_of(function), "CARD", None)
    return card


def _module_of(function: object) -> Any:
    return sys.modules[str(getattr(function, "__module__", ""))]
