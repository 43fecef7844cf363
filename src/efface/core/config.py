"""A method's configuration: its dataclass, its presets, and what the user sets."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from efface.core.errors import EffaceError, UnknownName, check_keys

C = TypeVar("C")


def configure(cls: type[C], presets: Mapping[str, Mapping[str, Any]], preset: str, overrides: Mapping[str, Any]) -> C:
    """The configuration ``cls`` of a preset with some fields set otherwise; texts (from a command line) become the field's type.

    Raises:
        UnknownName: no such preset or field; the nearest is suggested.
        EffaceError: a value that is not of the field's type.
    """
    if preset not in presets:
        raise UnknownName("preset", preset, presets)
    check_keys("config field", overrides, (item.name for item in fields(cls)))  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    return cls(**{**presets[preset], **{name: _typed(name, value, hints[name]) for name, value in overrides.items()}})


def _typed(name: str, value: Any, kind: type) -> Any:
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
            raise EffaceError(f"config field {name!r} is a list of texts (on a command line with commas between), not {value!r}")
        return tuple(items)
    if type(value) is not kind:
        raise EffaceError(f"config field {name!r} is of type {kind.__name__}, not {value!r}")
    return value
