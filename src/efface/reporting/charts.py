"""Charts as numbers between 0 and 100: the template draws them as SVG in per cent, so that text keeps its size on every screen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from efface.core.score import Score

from .criteria import Criterion
from .formatting import format_cell, format_number


class Tick(NamedTuple):
    """A place on an axis, in per cent, and its label."""

    at: float
    label: str


class Mark(NamedTuple):
    """A value with its interval, in per cent of the axis."""

    at: float
    low: float
    high: float


@dataclass(frozen=True)
class Axis:
    """A linear axis; what lies beyond its ends is drawn at them."""

    low: float
    high: float

    @classmethod
    def around(cls, numbers: Iterable[float | None]) -> Axis:
        """From 0 to 1, or further in steps of 0.25 where numbers lie beyond, from -1 to 2 at most."""
        known = [number for number in numbers if number is not None]
        low = math.floor(min([0.0, *known]) * 4) / 4
        high = math.ceil(max([1.0, *known]) * 4) / 4
        return cls(max(low, -1.0), min(high, 2.0))

    def place(self, number: float) -> float:
        """Where a number stands, in per cent."""
        return round(100 * (min(max(number, self.low), self.high) - self.low) / (self.high - self.low), 3)

    def ticks(self) -> list[Tick]:
        """Every quarter, or every half of a wide axis."""
        step = 0.25 if self.high - self.low <= 1.5 else 0.5
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [Tick(self.place(i * step), f"{i * step:g}") for i in range(first, last + 1)]

    def mark(self, value: Any, low: Any, high: Any) -> Mark | None:
        """A value with its interval, without width where it has none; None where there is no value."""
        if not _number(value):
            return None
        bounds = (low, high) if _number(low) and _number(high) else (value, value)
        return Mark(self.place(value), self.place(bounds[0]), self.place(bounds[1]))


@dataclass(frozen=True)
class Bar:
    """A criterion's score on the axis, and its threshold."""

    criterion: Criterion
    mark: Mark | None
    limit: float
    text: str


@dataclass(frozen=True)
class Change:
    """One object before and after."""

    object: str
    n: int
    before: Mark | None
    after: Mark | None
    text: str
    rates: str
    lost: bool


@dataclass(frozen=True)
class Chart:
    """Rows on one axis."""

    axis: Axis
    rows: Sequence[Any]


def bars(criteria: Sequence[Criterion]) -> Chart:
    """Every score that the verdict reads, with its threshold."""
    scores = [criterion.score for criterion in criteria if criterion.score is not None]
    axis = Axis.around(number for score in scores for number in (score.value, score.low, score.high))
    return Chart(axis, [Bar(c, _of(c.score, axis), axis.place(c.limit), format_cell(c.score)) for c in criteria])


def changes(rows: Sequence[Mapping[str, Any]]) -> Chart:
    """Every other object before and after, in the order given."""
    axis = Axis(0.0, 1.0)
    return Chart(axis, [_change(row, axis) for row in rows])


def _change(row: Mapping[str, Any], axis: Axis) -> Change:
    marks = [axis.mark(row.get(name), row.get(f"{name}_low"), row.get(f"{name}_high")) for name in ("before", "after")]
    found = [row.get(name) for name in ("change", "change_low", "change_high")]
    value, low, high = (number if _number(number) else None for number in found)
    bounds = "" if low is None or high is None else f" [{low:+.2f}, {high:+.2f}]"
    text = "N/A" if value is None else f"{value:+.2f}{bounds}"
    rates = " → ".join(format_number(row[name] if _number(row.get(name)) else None) for name in ("before", "after"))
    return Change(row["object"], row.get("n", 0), marks[0], marks[1], text, rates, high is not None and high < 0)


def _of(score: Score | None, axis: Axis) -> Mark | None:
    return None if score is None else axis.mark(score.value, score.low, score.high)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
