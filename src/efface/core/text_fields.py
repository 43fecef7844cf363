"""Checks and normalizes the texts of a concept."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from .errors import EffaceError


@lru_cache(maxsize=65536)
def fold_case(text: str) -> str:
    """Returns the text in Unicode's NFKC form, without case differences and repeated spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def clean_line(value: object, field: str) -> str:
    """Returns the text of a concept's field with single spaces; raises `EffaceError` for anything but text."""
    if not isinstance(value, str):
        raise EffaceError(f"the concept's {field} must be text, not {value!r}")
    return " ".join(value.split())


def clean_lines(value: object, field: str) -> tuple[str, ...]:
    """Returns a concept's list of texts with single spaces; only ``retain_prompts`` may contain an empty text."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise EffaceError(f"the concept's {field} must be a list of texts, not {value!r}")
    texts = tuple(clean_line(item, f"{field}[{i}]") for i, item in enumerate(value))
    if "" in texts and field != "retain_prompts":
        raise EffaceError(f"the concept's {field} contain an empty text: leave it out")
    return texts
