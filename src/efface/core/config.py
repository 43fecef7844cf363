"""Builds a method's configuration from its dataclass, a preset and the user's settings."""

from __future__ import annotations

import ast
import math
import typing
from collections.abc import Collection, Mapping
from dataclasses import fields, make_dataclass
from typing import Any, TypeVar

from .errors import EffaceError, UnknownNameError, check_known_keys
from .module_source import parse_module
from .settings import read_settings

C = TypeVar("C")


def read_config(module: str) -> tuple[type, dict[str, dict[str, Any]]]:
    """Reads a module's ``Config`` and ``PRESETS`` from its source text, without importing the module.

    Args:
        module: the module's dotted name.

    Returns:
        A dataclass with the fields of ``Config``, and the presets by name.

    Raises:
        EffaceError: the module has no ``Config``, or no ``PRESETS`` with ``paper``.
    """
    presets: dict[str, dict[str, Any]] = {}
    for node in parse_module(module).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "PRESETS" and node.value is not None:
            presets = ast.literal_eval(node.value)
    types = [(setting.name, _FIELD_TYPES.get(setting.type, str), None) for setting in read_settings(module)]
    if "paper" not in presets:
        raise EffaceError(f"{module} must declare a Config, and PRESETS with 'paper'")
    return make_dataclass("Config", types), presets


_FIELD_TYPES: dict[str, Any] = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "tuple[str, ...]": tuple[str, ...],
}


def resolve_preset(presets: Collection[str], preset: str | None, model: str, family: str = "") -> str:
    """Returns the requested preset; by default the model's own if it exists, else its family's, else ``paper``."""
    return preset or next((name for name in (model, family) if name in presets), "paper")


def build_config(
    cls: type[C], presets: Mapping[str, Mapping[str, Any]], preset: str, overrides: Mapping[str, Any]
) -> C:
    """Returns the configuration of a preset with some fields overridden.

    Args:
        cls: the configuration's dataclass.
        presets: the presets by name, each a mapping from fields to values.
        preset: name of the preset.
        overrides: fields to set; text (from a command line) is converted to the field's type.

    Raises:
        UnknownNameError: no such preset or field; the message suggests the nearest name.
        EffaceError: a value of another type than the field's.
    """
    if preset not in presets:
        raise UnknownNameError("preset", preset, presets)
    check_known_keys("config field", overrides, (item.name for item in fields(cls)))  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    coerced = {name: _coerce_value(name, value, hints[name]) for name, value in overrides.items()}
    for name, value in coerced.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise EffaceError(f"config field {name!r} is {value}: give a finite number (--set {name}=NUMBER)")
    return cls(**{**presets[preset], **coerced})


def _coerce_value(name: str, value: Any, kind: type) -> Any:
    if kind is bool and isinstance(value, str):
        if value.lower() not in ("true", "false"):
            raise EffaceError(f"config field {name!r} is true or false, not {value!r}")
        return value.lower() == "true"
    if isinstance(value, str) and kind in (int, float):
        try:
            return kind(value)
        except ValueError as error:
            raise EffaceError(f"config field {name!r} is a number ({kind.__name__}), not {value!r}") from error
    if kind is float and type(value) is int:
        return float(value)
    if typing.get_origin(kind) is tuple:
        items = [item.strip() for item in value.split(",")] if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(item, str) and item for item in items):
            raise EffaceError(
                f"config field {name!r} is a list of texts (on a command line with commas between), not {value!r}"
            )
        return tuple(items)
    if type(value) is not kind:
        raise EffaceError(f"config field {name!r} is of type {kind.__name__}, not {value!r}")
    return value
