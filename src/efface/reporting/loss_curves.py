"""Loss curves: every recorded number of a phase as a line in a square of 1000 by 1000."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .charts import Tick

SQUARE = 1000
POINTS = 240
"""Points a line; more steps are averaged."""
_SMOOTH = 40  # the smooth line's memory is this fraction of a run

Series = list[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """One recorded number over the steps: SVG points, raw and smoothed, its name, and its last smoothed value."""

    name: str
    raw: str
    smooth: str
    last: str


@dataclass(frozen=True)
class Panel:
    """Lines that share their axes."""

    title: str
    lines: tuple[Line, ...]
    ticks: tuple[Tick, ...]
    steps: tuple[str, str]
    log: bool


def panels(history: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Panel]:
    """By phase one panel with the loss and its parts, and one with the gradient's norm."""
    found = []
    for phase, rows in history.items():
        names = list(dict.fromkeys(name for row in rows for name in row if name != "step"))
        names.sort(key=lambda name: name != "loss")
        series = {name: points for name in names if (points := _series(rows, name))}
        norms = {name: series.pop(name) for name in ("grad_norm",) if name in series}
        ends = min(_steps(rows)), max(_steps(rows))
        found += [
            _panel(f"{phase}: {title}", lines, *ends)
            for title, lines in (("loss", series), ("gradient norm", norms))
            if lines
        ]
    return found


def _steps(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    return [float(row["step"]) if _finite(row.get("step")) else float(i) for i, row in enumerate(rows)]


def _series(rows: Sequence[Mapping[str, Any]], name: str) -> Series:
    """Steps and values, averaged to at most `POINTS`; what is not finite is left out."""
    points = [(x, float(row[name])) for x, row in zip(_steps(rows), rows, strict=True) if _finite(row.get(name))]
    width = -(-len(points) // POINTS)
    parts = [points[i : i + width] for i in range(0, len(points), width)] if points else []
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]


def _panel(title: str, series: Mapping[str, Series], first: float, last: float) -> Panel:
    values = [y for points in series.values() for _, y in points]
    log = min(values) > 0 and max(values) / min(values) > 30
    low, high = (math.log10(min(values)), math.log10(max(values))) if log else (min([0.0, *values]), max(values))
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edge = 0.04 * (high - low)
    low, high = (low - edge if log or low < 0 else low), high + edge

    def path(points: Series) -> str:
        spread = (last - first) or 1.0
        places = [
            (SQUARE * (x - first) / spread, SQUARE * (high - (math.log10(y) if log else y)) / (high - low))
            for x, y in points
        ]
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)

    lines = tuple(
        Line(name, path(points), path(_smooth(points)), f"{_smooth(points)[-1][1]:.3g}")
        for name, points in series.items()
    )
    ticks = tuple(Tick(round(100 * (high - at) / (high - low), 2), label) for at, label in _ticks(low, high, log))
    return Panel(title, lines, ticks, (f"{first:.0f}", f"{last:.0f}"), log)


def _smooth(points: Series) -> Series:
    """An exponential mean, without the bias towards its start."""
    keep = 1 - 1 / max(len(points) / _SMOOTH, 1)
    total = weight = 0.0
    found = []
    for x, y in points:
        total, weight = keep * total + y, keep * weight + 1
        found.append((x, total / weight))
    return found


def _ticks(low: float, high: float, log: bool) -> list[tuple[float, str]]:
    if log:
        places = [(decade, factor) for decade in range(math.floor(low), math.ceil(high) + 1) for factor in (1, 2, 5)]
        found = [(decade + math.log10(factor), f"{factor * 10.0**decade:g}") for decade, factor in places]
        inside = [(at, label) for at, label in found if low <= at <= high]
        return inside[:: max(1, -(-len(inside) // 6))]
    size = (high - low) / 4
    unit = 10 ** math.floor(math.log10(size))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= size)
    return [(i * step, f"{i * step:.6g}") for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
