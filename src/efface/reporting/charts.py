"""Charts as numbers between 0 and 100, which the template draws as SVG.

Positions are in per cent of the axis, so that text keeps its size on every screen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .criteria import Criterion
from .formatting import format_cell, format_number


class Tick(NamedTuple):
    """A position on an axis, in per cent, and its label."""

    position: float
    label: str


class Mark(NamedTuple):
    """A value with its interval, in per cent of the axis."""

    position: float
    low: float
    high: float


@dataclass(frozen=True)
class Axis:
    """A linear axis; numbers beyond its ends are drawn at the ends."""

    low: float
    high: float

    @classmethod
    def covering(cls, numbers: Iterable[float | None]) -> Axis:
        """The axis from 0 to 1, extended in steps of 0.25 to cover all numbers, but at most from -1 to 2."""
        known = [number for number in numbers if number is not None]
        low = math.floor(min([0.0, *known]) * 4) / 4
        high = math.ceil(max([1.0, *known]) * 4) / 4
        return cls(max(low, -1.0), min(high, 2.0))

    def to_percent(self, number: float) -> float:
        """Position of a number, in per cent."""
        clamped = min(max(number, self.low), self.high)
        return round(100 * (clamped - self.low) / (self.high - self.low), 3)

    def ticks(self) -> list[Tick]:
        """Ticks in steps of 0.25, or of 0.5 on an axis longer than 1.5."""
        step = 0.25 if self.high - self.low <= 1.5 else 0.5
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [Tick(self.to_percent(i * step), f"{i * step:g}") for i in range(first, last + 1)]

    def mark(self, value: Any, low: Any, high: Any) -> Mark | None:
        """Mark of a value; without an interval its width is 0, without a value there is no mark."""
        if not _is_number(value):
            return None
        bounds = (low, high) if _is_number(low) and _is_number(high) else (value, value)
        return Mark(self.to_percent(value), self.to_percent(bounds[0]), self.to_percent(bounds[1]))


@dataclass(frozen=True)
class Bar:
    """A criterion's score and threshold on the axis.

    Attributes:
        criterion: Requirement and score.
        mark: Position of the score; None if it was not measured.
        threshold_position: Position of the threshold, in per cent.
        score_text: Score with its interval.
    """

    criterion: Criterion
    mark: Mark | None
    threshold_position: float
    score_text: str


@dataclass(frozen=True)
class Change:
    """The detection rate of one other object before and after the erasure.

    Attributes:
        object_name: Name of the object.
        n: Number of images.
        before: Rate before the erasure; None if it was not measured.
        after: Rate after the erasure; None if it was not measured.
        change_text: Difference with its interval.
        rates_text: Both rates.
        is_loss: Whether the whole interval of the difference is below zero.
    """

    object_name: str
    n: int
    before: Mark | None
    after: Mark | None
    change_text: str
    rates_text: str
    is_loss: bool


@dataclass(frozen=True)
class Chart:
    """Rows on one axis."""

    axis: Axis
    rows: Sequence[Any]


def criteria_chart(criteria: Sequence[Criterion]) -> Chart:
    """Chart of every score that the verdict depends on, with its threshold."""
    scores = [criterion.score for criterion in criteria if criterion.score is not None]
    axis = Axis.covering(number for score in scores for number in (score.value, score.low, score.high))
    bars = []
    for criterion in criteria:
        score = criterion.score
        mark = None if score is None else axis.mark(score.value, score.low, score.high)
        bars.append(Bar(criterion, mark, axis.to_percent(criterion.threshold), format_cell(score)))
    return Chart(axis, bars)


def interference_chart(rows: Sequence[Mapping[str, Any]]) -> Chart:
    """Chart of every other object before and after the erasure, in the order given."""
    axis = Axis(0.0, 1.0)
    return Chart(axis, [_change(row, axis) for row in rows])


def _change(row: Mapping[str, Any], axis: Axis) -> Change:
    """One row of the interference chart; ``row`` is a row of ``interference.json``."""
    value, low, high = (_number_or_none(row.get(name)) for name in ("change", "change_low", "change_high"))
    interval = "" if low is None or high is None else f" [{low:+.2f}, {high:+.2f}]"
    return Change(
        object_name=row["object"],
        n=row.get("n", 0),
        before=axis.mark(row.get("before"), row.get("before_low"), row.get("before_high")),
        after=axis.mark(row.get("after"), row.get("after_low"), row.get("after_high")),
        change_text="N/A" if value is None else f"{value:+.2f}{interval}",
        rates_text=" → ".join(format_number(_number_or_none(row.get(name))) for name in ("before", "after")),
        is_loss=high is not None and high < 0,
    )


def _number_or_none(value: Any) -> float | None:
    return value if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
