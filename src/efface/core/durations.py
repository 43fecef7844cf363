"""Durations in words, rounded as an estimate deserves."""

from __future__ import annotations


def rounded_duration(seconds: float) -> str:
    """Returns a duration such as ``under 1 s``, ``40 s``, ``4 min`` or ``2 h 10 min``."""
    if seconds < 1:
        return "under 1 s"
    if seconds < 90:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
