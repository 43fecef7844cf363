"""A plot of values with intervals, as SVG text: no dependency, sharp at every size, readable as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

LEFT, PANEL, GAP, ROW, TOP = 190, 130, 18, 24, 56
COLOURS = ("#b3261e", "#b3261e", "#1b6e3c", "#1b6e3c", "#1f4f8f", "#7a5c00")


@dataclass(frozen=True)
class Series:
    """One panel: its label, and for every row a value with its interval, or None where there is none."""

    label: str
    values: Sequence[tuple[float, float, float] | None]


def interval_plot(title: str, rows: Sequence[str], series: Sequence[Series]) -> str:
    """Panels side by side over the same rows, axis from 0 to 1; the first row is the reference, drawn as a dotted line."""
    width, height = LEFT + len(series) * (PANEL + GAP) + 10, TOP + len(rows) * ROW + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="10" y="20" font-size="14" font-weight="600" fill="#1a1a1a">{escape(title)}</text>',
    ]
    for i, name in enumerate(rows):
        y = TOP + i * ROW
        shade = "#f4f4f2" if i % 2 == 0 else "#fff"
        parts.append(f'<rect x="0" y="{y}" width="{width}" height="{ROW}" fill="{shade}"/>')
        parts.append(f'<text x="10" y="{y + 16}" fill="#1a1a1a">{escape(name)}</text>')
    for k, panel in enumerate(series):
        parts += _panel(panel, LEFT + k * (PANEL + GAP), len(rows), COLOURS[k % len(COLOURS)])
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Series, left: int, rows: int, colour: str) -> list[str]:
    bottom = TOP + rows * ROW
    parts = [f'<text x="{left}" y="{TOP - 10}" font-weight="600" fill="#333">{escape(panel.label)}</text>']
    for tick in (0.0, 0.5, 1.0):
        x = left + PANEL * tick
        parts.append(f'<line x1="{x}" y1="{TOP}" x2="{x}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x}" y="{bottom + 16}" text-anchor="middle" font-size="10" fill="#666">{tick:g}</text>')
    first = panel.values[0] if panel.values else None
    if first is not None:
        x = left + PANEL * _clipped(first[0])
        parts.append(
            f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}" stroke="{colour}" stroke-dasharray="2 3" opacity=".6"/>'
        )
    for i, value in enumerate(panel.values):
        if value is None:
            continue
        y, (at, low, high) = TOP + i * ROW + ROW / 2, (left + PANEL * _clipped(v) for v in value)
        parts.append(f'<line x1="{low:.1f}" y1="{y}" x2="{high:.1f}" y2="{y}" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<circle cx="{at:.1f}" cy="{y}" r="3.5" fill="{colour}"/>')
    return parts


def _clipped(value: float) -> float:
    return min(max(value, 0.0), 1.05)


@dataclass(frozen=True)
class Cloud:
    """Points ``[[x, y], ...]`` of one group."""

    name: str
    points: Sequence[Sequence[float]]


SHAPES = ("#b3261e", "#e58a83", "#2f7d4f", "#b9c0c7", "#1f4f8f", "#8a4fbf", "#c77700", "#00868b", "#444444")
SIDE = 420


def scatter(title: str, panels: Mapping[str, Sequence[Cloud]]) -> str:
    """Panels side by side, one colour a group; groups after the first four (attacks) are drawn as crosses on top."""
    names = [cloud.name for cloud in next(iter(panels.values()))]
    width, height = len(panels) * (SIDE + 20) + 20, SIDE + 76 + 18 * ((len(names) + 3) // 4)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="20" y="22" font-size="14" font-weight="600" fill="#1a1a1a">{escape(title)}</text>',
    ]
    for k, (panel, clouds) in enumerate(panels.items()):
        left = 20 + k * (SIDE + 20)
        parts.append(f'<text x="{left}" y="44" fill="#333">{escape(panel)} encoder</text>')
        parts.append(f'<rect x="{left}" y="52" width="{SIDE}" height="{SIDE}" fill="none" stroke="#ddd"/>')
        parts += _points(clouds, left)
    for i, name in enumerate(names):
        x, y = 20 + (i % 4) * 200, SIDE + 74 + 18 * (i // 4)
        parts.append(_mark(x + 6, y - 4, i))
        parts.append(f'<text x="{x + 16}" y="{y}" fill="#333">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _points(clouds: Sequence[Cloud], left: int) -> list[str]:
    every = [point for cloud in clouds for point in cloud.points]
    spans = [(min(p[axis] for p in every), max(p[axis] for p in every)) for axis in (0, 1)]
    parts = []
    for i, cloud in enumerate(clouds):
        for point in cloud.points:
            x, y = ((point[axis] - low) / ((high - low) or 1) for axis, (low, high) in enumerate(spans))
            parts.append(_mark(left + 10 + x * (SIDE - 20), 62 + (1 - y) * (SIDE - 20), i))
    return parts


def _mark(x: float, y: float, group: int) -> str:
    colour = SHAPES[group % len(SHAPES)]
    if group < 4:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{colour}" opacity=".8"/>'
    return f'<path d="M{x - 3:.1f} {y - 3:.1f}l6 6m0 -6l-6 6" stroke="{colour}" stroke-width="1.6"/>'
