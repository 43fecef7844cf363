"""Checks and normalizes the texts of a concept."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from .errors import EffaceError

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co"})
"""Unicode categories of control characters, invisible formatting, halves of surrogate pairs and private use."""


@lru_cache(maxsize=65536)
def fold_case(text: str) -> str:
    """Returns the text in Unicode's NFKC form, without case differences and repeated spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def check_readable(text: str) -> None:
    """Checks that a text was read in its own encoding.

    Raises:
        EffaceError: it holds bytes that are not text in UTF-8, as a terminal with another encoding passes them.
    """
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise EffaceError(f"the text {text!r} is not UTF-8: type it in a UTF-8 terminal, or put it into a UTF-8 file")


def clean_line(value: object, field: str) -> str:
    """Returns the text of a concept's field with single spaces and composed letters (Unicode's NFC form).

    Raises:
        EffaceError: the value is no text, holds invisible characters, or only punctuation.
    """
    if not isinstance(value, str):
        raise EffaceError(f"the concept's {field} must be text, not {value!r}")
    check_readable(value)
    text = unicodedata.normalize("NFC", " ".join(value.split()))
    if letter := next((letter for letter in text if unicodedata.category(letter) in _INVISIBLE), None):
        raise EffaceError(
            f"the concept's {field} {text!r} holds an invisible character (U+{ord(letter):04X}): type the text again"
        )
    if text and not any(unicodedata.category(letter)[0] in "LNS" for letter in text.replace("{}", "x")):
        raise EffaceError(f"the concept's {field} {text!r} is punctuation only: leave it out")
    return text


def clean_lines(value: object, field: str) -> tuple[str, ...]:
    """Returns a concept's list of texts as `clean_line` does; only ``retain_prompts`` may contain an empty text.

    Raises:
        EffaceError: the value is no list, or one of its texts is refused.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise EffaceError(f"the concept's {field} must be a list of texts, not {value!r}")
    texts = tuple(clean_line(item, f"{field}[{i}]") for i, item in enumerate(value))
    if "" in texts and field != "retain_prompts":
        raise EffaceError(f"the concept's {field} contain an empty text: leave it out")
    return texts
