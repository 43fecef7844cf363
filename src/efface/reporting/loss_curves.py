"""Loss curves: each recorded number of a phase as a line in a square of 1000 x 1000."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .charts import Tick

VIEW_SIZE = 1000
"""Side of the square, in SVG units."""
MAX_POINTS = 240
"""Maximum number of points of a line; longer runs are averaged."""
LOG_RATIO = 30
"""Ratio of the largest to the smallest value from which the axis is logarithmic."""
_SMOOTHING_WINDOWS = 40  # the moving average covers 1/40 of a run

Series = list[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """One recorded number over the steps.

    Attributes:
        name: Name of the number, such as ``loss``.
        raw_points: SVG points of the values.
        smooth_points: SVG points of the smoothed values.
        last_value: Last smoothed value.
    """

    name: str
    raw_points: str
    smooth_points: str
    last_value: str


@dataclass(frozen=True)
class Panel:
    """Lines that share their axes.

    Attributes:
        title: Phase and kind of the numbers.
        lines: One line per number.
        ticks: Ticks of the vertical axis, in per cent from the top.
        steps: First and last step.
        logarithmic: Whether the vertical axis is logarithmic.
    """

    title: str
    lines: tuple[Line, ...]
    ticks: tuple[Tick, ...]
    steps: tuple[str, str]
    logarithmic: bool


@dataclass(frozen=True)
class _Scale:
    """Maps steps and values to the square; ``low`` and ``high`` are logarithms on a logarithmic axis."""

    first: float
    last: float
    low: float
    high: float
    logarithmic: bool

    @classmethod
    def fit(cls, values: Sequence[float], first: float, last: float) -> _Scale:
        """The scale that shows all values, with a margin of 4 %."""
        logarithmic = min(values) > 0 and max(values) / min(values) > LOG_RATIO
        if logarithmic:
            low, high = math.log10(min(values)), math.log10(max(values))
        else:
            low, high = min([0.0, *values]), max(values)
        if high <= low:
            low, high = low - 0.5, high + 0.5
        margin = 0.04 * (high - low)
        return cls(first, last, low - margin if logarithmic or low < 0 else low, high + margin, logarithmic)

    def svg_points(self, points: Series) -> str:
        """Points as the attribute of an SVG polyline."""
        length = (self.last - self.first) or 1.0
        height = self.high - self.low
        texts = []
        for step, value in points:
            x = VIEW_SIZE * (step - self.first) / length
            y = VIEW_SIZE * (self.high - (math.log10(value) if self.logarithmic else value)) / height
            texts.append(f"{x:.1f},{y:.1f}")
        return " ".join(texts)

    def ticks(self) -> tuple[Tick, ...]:
        """Ticks of the vertical axis."""
        ticks = _log_ticks(self.low, self.high) if self.logarithmic else _linear_ticks(self.low, self.high)
        height = self.high - self.low
        return tuple(Tick(round(100 * (self.high - value) / height, 2), label) for value, label in ticks)


def loss_panels(history: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Panel]:
    """For each phase, one panel with the loss and its parts and one with the gradient norm."""
    panels = []
    for phase, rows in history.items():
        names = list(dict.fromkeys(name for row in rows for name in row if name != "step"))
        names.sort(key=lambda name: name != "loss")
        losses = {name: points for name in names if (points := _series(rows, name))}
        norms = {name: losses.pop(name) for name in ("grad_norm",) if name in losses}
        steps = _steps(rows)
        for title, series in (("loss", losses), ("gradient norm", norms)):
            if series:
                panels.append(_panel(f"{phase}: {title}", series, min(steps), max(steps)))
    return panels


def _steps(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    return [float(row["step"]) if _is_finite(row.get("step")) else float(i) for i, row in enumerate(rows)]


def _series(rows: Sequence[Mapping[str, Any]], name: str) -> Series:
    """Steps and values of one number, averaged to at most `MAX_POINTS`; values that are not finite are left out."""
    points = [
        (step, float(row[name])) for step, row in zip(_steps(rows), rows, strict=True) if _is_finite(row.get(name))
    ]
    width = -(-len(points) // MAX_POINTS)
    chunks = [points[i : i + width] for i in range(0, len(points), width)] if points else []
    return [(sum(x for x, _ in chunk) / len(chunk), sum(y for _, y in chunk) / len(chunk)) for chunk in chunks]


def _panel(title: str, series: Mapping[str, Series], first: float, last: float) -> Panel:
    scale = _Scale.fit([value for points in series.values() for _, value in points], first, last)
    lines = []
    for name, points in series.items():
        smooth = _smooth(points)
        lines.append(Line(name, scale.svg_points(points), scale.svg_points(smooth), f"{smooth[-1][1]:.3g}"))
    return Panel(title, tuple(lines), scale.ticks(), (f"{first:.0f}", f"{last:.0f}"), scale.logarithmic)


def _smooth(points: Series) -> Series:
    """Exponential moving average, corrected for the bias towards its start."""
    decay = 1 - 1 / max(len(points) / _SMOOTHING_WINDOWS, 1)
    total = weight = 0.0
    averages = []
    for step, value in points:
        total, weight = decay * total + value, decay * weight + 1
        averages.append((step, total / weight))
    return averages


def _log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Positions and labels of at most about six ticks at 1, 2 and 5 times powers of ten."""
    decades = range(math.floor(low), math.ceil(high) + 1)
    ticks = [(decade + math.log10(factor), f"{factor * 10.0**decade:g}") for decade in decades for factor in (1, 2, 5)]
    inside = [(position, label) for position, label in ticks if low <= position <= high]
    return inside[:: max(1, -(-len(inside) // 6))]


def _linear_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Positions and labels of about four ticks in steps of 1, 2 or 5 times a power of ten."""
    size = (high - low) / 4
    unit = 10 ** math.floor(math.log10(size))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= size)
    return [(i * step, f"{i * step:.6g}") for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
