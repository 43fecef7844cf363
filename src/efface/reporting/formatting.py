"""Formats numbers, ranges, times and values for the report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from efface.core.score import Score

MAX_LENGTH = 600
"""Number of characters after which a value is cut."""
_SMALL_SCALE_METRICS = ("kid", "fid")


def decimal_places(score: Score, digits: int = 2) -> int:
    """Decimal places for a score: ``digits``, but two significant digits for small values of KID and FID."""
    sizes = [abs(number) for number in (score.value, score.low, score.high) if number]
    if score.metric not in _SMALL_SCALE_METRICS or not sizes or max(sizes) >= 10 ** (1 - digits):
        return digits
    return min(1 - math.floor(math.log10(max(sizes))), 8)


def format_number(number: float | None, digits: int = 2) -> str:
    """A number with ``digits`` decimal places; ``N/A`` for None."""
    if number is None:
        return "N/A"
    text = f"{number:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def format_interval(score: Score, digits: int = 2) -> str:
    """The score's interval, such as ``[0.91, 0.98]``; empty if it has none."""
    if score.low is None or score.high is None:
        return ""
    return f"[{format_number(score.low, digits)}, {format_number(score.high, digits)}]"


def format_cell(score: Score | None, digits: int = 2) -> str:
    """Value and interval, such as ``0.95 [0.91, 0.98]``; ``N/A`` without a value."""
    if score is None:
        return "N/A"
    places = decimal_places(score, digits)
    return f"{format_number(score.value, places)} {format_interval(score, places)}".rstrip()


def format_range(numbers: Iterable[int]) -> str:
    """Whole numbers as ranges and, in brackets, how many they are: ``3, 7-9 (4)``."""
    ordered = sorted(set(numbers))
    ranges: list[list[int]] = []
    for number in ordered:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
    listed = ", ".join(texts[:8]) + (", …" if texts[8:] else "")
    return f"{listed} ({len(ordered)})" if len(ordered) > 1 else listed


def format_duration(seconds: float) -> str:
    """Such as ``18.4 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    if seconds < 100:
        return f"{seconds:.1f}\u00a0s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes}\u00a0min {rest}\u00a0s"
    return f"{minutes // 60}\u00a0h {minutes % 60}\u00a0min"


def format_time(text: Any) -> str:
    """An ISO time as ``2026-03-02 10:11 UTC``; other text unchanged."""
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return str(text)
    return time.strftime("%Y-%m-%d %H:%M") + (f" {time.tzname()}" if time.tzinfo else "")


def format_size(count: float) -> str:
    """A number of bytes in binary units, such as ``1.5 KiB``."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def format_value(value: Any) -> str:
    """A JSON value as one line of text."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {format_value(item)}" for key, item in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(format_value(item) for item in value) or "none"
    return str(value) or "(empty)"


def flatten(data: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as rows, such as ``("benchmark name", "pocket-weapon")``; long values are shortened."""
    rows: list[tuple[str, str]] = []
    for key, value in data.items():
        name = f"{prefix} {key}".strip().replace("_", " ")
        if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            value = {str(i): item for i, item in enumerate(value, 1)}
        rows += flatten(value, name) if isinstance(value, Mapping) and value else [(name, shorten(format_value(value)))]
    return rows


def shorten(text: str) -> str:
    """Cuts a SHA-256 to 12 digits and other text to `MAX_LENGTH` characters."""
    if len(text) == 64 and not set(text) - set("0123456789abcdef"):
        return text[:12]
    return text if len(text) <= MAX_LENGTH else text[:MAX_LENGTH] + "…"
