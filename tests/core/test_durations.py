"""Durations in words."""

from __future__ import annotations

import pytest

from efface.core.durations import rounded_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.1, "under 1 s"), (1.2, "1 s"), (89.4, "89 s"), (100, "2 min"), (5300, "88 min"), (7800, "2 h 10 min")],
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert rounded_duration(seconds) == text
