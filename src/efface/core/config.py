"""A method's configuration: its dataclass, its presets, and what the user sets."""

from __future__ import annotations

import ast
import typing
from collections.abc import Collection, Mapping
from dataclasses import fields, make_dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from .errors import EffaceError, UnknownNameError, check_known_keys

C = TypeVar("C")


def read_config(module: str) -> tuple[type, dict[str, dict[str, Any]]]:
    """The fields of a module's ``Config``, as a dataclass of its own, and its ``PRESETS``, from its source text: nothing is imported.

    Raises:
        EffaceError: the module has no such class, or presets that are no literal.
    """
    spec = find_spec(module)
    tree = ast.parse(Path(str(spec.origin)).read_text(encoding="utf-8")) if spec and spec.origin else ast.Module([], [])
    found: list[tuple[str, Any]] | None = None
    presets: dict[str, dict[str, Any]] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Config":
            rows = [item for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)]
            found = [(item.target.id, _FIELD_TYPES.get(ast.unparse(item.annotation), str)) for item in rows]  # type: ignore[union-attr]
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "PRESETS" and node.value is not None:
            presets = ast.literal_eval(node.value)
    if found is None or "paper" not in presets:
        raise EffaceError(f"{module} declares no Config, or no PRESETS with 'paper'")
    return make_dataclass("Config", [(name, kind, None) for name, kind in found]), presets


_FIELD_TYPES: dict[str, Any] = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "tuple[str, ...]": tuple[str, ...],
}


def resolve_preset(presets: Collection[str], preset: str | None, model: str) -> str:
    """The preset that was asked for; else the model's own where there is one, else ``paper``."""
    return preset or (model if model in presets else "paper")


def build_config(
    cls: type[C], presets: Mapping[str, Mapping[str, Any]], preset: str, overrides: Mapping[str, Any]
) -> C:
    """The configuration ``cls`` of a preset with some fields set otherwise; texts (from a command line) become the field's type.

    Raises:
        UnknownName: no such preset or field; the nearest is suggested.
        EffaceError: a value that is not of the field's type.
    """
    if preset not in presets:
        raise UnknownNameError("preset", preset, presets)
    check_known_keys("config field", overrides, (item.name for item in fields(cls)))  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    return cls(
        **{**presets[preset], **{name: _coerce_value(name, value, hints[name]) for name, value in overrides.items()}}
    )


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
