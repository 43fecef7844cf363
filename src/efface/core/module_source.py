"""Reads a module's source without importing it."""

from __future__ import annotations

import ast
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from .errors import EffaceError


@lru_cache(maxsize=64)
def parse_module(module: str) -> ast.Module:
    """Returns the syntax tree of a module, given by its dotted name.

    Raises:
        EffaceError: there is no such module, or it has no source.
    """
    spec = find_spec(module)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise EffaceError(f"module {module} has no source to read")
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
