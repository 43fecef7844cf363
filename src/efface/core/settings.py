"""The settings of a method or attack, read from its source text without importing it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import EffaceError, UnknownNameError
from .module_source import parse_module


@dataclass(frozen=True)
class Setting:
    """One field of a ``Config``.

    Attributes:
        name: name of the field.
        type: its annotation, such as ``int``.
        default: default value, the paper's.
        help: its meaning in one line.
        range: values that were tried or are possible, as text; empty if none are stated.
    """

    name: str
    type: str
    default: Any
    help: str
    range: str = ""

    @property
    def lower_bound(self) -> float | None:
        """The first number of the range; None for a range of names."""
        match = re.match(r"-?[\d.]+(?:e-?\d+)?", self.range)
        return float(match[0]) if match and self.type in ("int", "float") else None


def read_settings(module: str) -> list[Setting]:
    """Reads the fields of a module's ``Config``, in order.

    Args:
        module: the module's dotted name.

    Raises:
        EffaceError: the module has no ``Config``.
    """
    for node in parse_module(module).body:
        if isinstance(node, ast.ClassDef) and node.name == "Config":
            return [_setting(item) for item in node.body if isinstance(item, ast.AnnAssign)]
    raise EffaceError(f"{module} must declare a Config, and PRESETS with 'paper'")


def _setting(item: ast.AnnAssign) -> Setting:
    """Reads ``name: type = field(default=..., metadata={...})``, or ``name: type = value``."""
    name, annotation, value = ast.unparse(item.target), ast.unparse(item.annotation), item.value
    if not isinstance(value, ast.Call):
        return Setting(name, annotation, _literal(value), "")
    keywords = {word.arg: word.value for word in value.keywords}
    metadata = _literal(keywords.get("metadata")) or {}
    default = _literal(keywords.get("default"))
    return Setting(name, annotation, default, metadata.get("help", ""), metadata.get("range", ""))


def _literal(node: ast.expr | None) -> Any:
    """Returns the value of a literal, or the text of another expression; None without a node."""
    if node is None:
        return None
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def check_settings(settings: Iterable[Setting], overrides: Mapping[str, Any], owner: str) -> None:
    """Checks the names of overridden settings, and that no number is below 0 where the range begins at 0 or above.

    Raises:
        UnknownNameError: no such setting; a symbol of the paper, such as ``lambda``, finds the setting that it names.
        EffaceError: a number below its range.
    """
    known = {setting.name: setting for setting in settings}
    for name, value in overrides.items():
        if name not in known:
            raise _unknown(name, known, owner)
        low, number = known[name].lower_bound, _number(value)
        if low is not None and number is not None and number < 0 <= low:
            allowed = known[name].range
            raise EffaceError(f"config field {name!r} is {number:g}, which is below 0: its range is {allowed}")


def _unknown(name: str, known: Mapping[str, Setting], owner: str) -> EffaceError:
    by_symbol = [s.name for s in known.values() if re.search(rf"\b{re.escape(name)}\b", s.help, re.IGNORECASE)]
    error = UnknownNameError("config field", name, known)
    if "did you mean" in str(error) or not by_symbol:
        return error
    return EffaceError(
        f"unknown config field {name!r}: did you mean {by_symbol[0]!r}? (`efface methods show {owner}` lists all)"
        if len(by_symbol) == 1
        else f"unknown config field {name!r}: did you mean one of {', '.join(by_symbol)}?"
    )


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
