"""SVG plots as text, without a plotting library: values with intervals, and scatter plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

# sizes of the interval plot in pixels
LABEL_WIDTH, LETTER_WIDTH, PANEL_WIDTH = 190, 7, 130
PANEL_GAP = 18
ROW_HEIGHT, HEAD_HEIGHT = 24, 56
PANEL_COLOURS = ("#b3261e", "#b3261e", "#1b6e3c", "#1b6e3c", "#1f4f8f", "#7a5c00")

# the scatter plot
SIDE = 420
GROUP_COLOURS = ("#b3261e", "#e58a83", "#2f7d4f", "#b9c0c7", "#1f4f8f", "#8a4fbf", "#c77700", "#00868b", "#444444")
NUM_CIRCLE_GROUPS = 4


@dataclass(frozen=True)
class Series:
    """The values of one panel.

    Attributes:
        label: title of the panel.
        values: for each row a value with the bounds of its interval; None without a value.
    """

    label: str
    values: Sequence[tuple[float, float, float] | None]


@dataclass(frozen=True)
class PointGroup:
    """Points ``[[x, y], ...]`` of one group in a scatter plot."""

    name: str
    points: Sequence[Sequence[float]]


def interval_plot(title: str, rows: Sequence[str], series: Sequence[Series]) -> str:
    """Draws panels over the same rows, with axes from 0 to 1; a dotted line marks the first row's value."""
    labels = max(LABEL_WIDTH, 20 + LETTER_WIDTH * max(map(len, rows), default=0))
    width = labels + len(series) * (PANEL_WIDTH + PANEL_GAP) + 10
    height = HEAD_HEIGHT + len(rows) * ROW_HEIGHT + 30
    parts = _head(width, height, title, 10, 20)
    for i, name in enumerate(rows):
        y = HEAD_HEIGHT + i * ROW_HEIGHT
        shade = "#f4f4f2" if i % 2 == 0 else "#fff"
        parts.append(f'<rect x="0" y="{y}" width="{width}" height="{ROW_HEIGHT}" fill="{shade}"/>')
        parts.append(f'<text x="10" y="{y + 16}" fill="#1a1a1a">{escape(name)}</text>')
    for k, panel in enumerate(series):
        left = labels + k * (PANEL_WIDTH + PANEL_GAP)
        parts += _panel(panel, left, len(rows), PANEL_COLOURS[k % len(PANEL_COLOURS)])
    return "\n".join([*parts, "</svg>"]) + "\n"


def _head(width: int, height: int, title: str, x: int, y: int) -> list[str]:
    """Starts a plot: the root element, a white background and the title at (x, y)."""
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{x}" y="{y}" font-size="14" font-weight="600" fill="#1a1a1a">{escape(title)}</text>',
    ]


def _panel(panel: Series, left: int, rows: int, colour: str) -> list[str]:
    top, bottom = HEAD_HEIGHT, HEAD_HEIGHT + rows * ROW_HEIGHT
    parts = [f'<text x="{left}" y="{top - 10}" font-weight="600" fill="#333">{escape(panel.label)}</text>']
    for tick in (0.0, 0.5, 1.0):
        x = left + PANEL_WIDTH * tick
        parts.append(f'<line x1="{x}" y1="{top}" x2="{x}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x}" y="{bottom + 16}" text-anchor="middle" font-size="10" fill="#666">{tick:g}</text>')
    reference = panel.values[0] if panel.values else None
    if reference is not None:
        x = left + PANEL_WIDTH * _clip(reference[0])
        parts.append(
            f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" '
            f'stroke="{colour}" stroke-dasharray="2 3" opacity=".6"/>'
        )
    for i, interval in enumerate(panel.values):
        if interval is None:
            continue
        y = top + i * ROW_HEIGHT + ROW_HEIGHT / 2
        value, low, high = (left + PANEL_WIDTH * _clip(bound) for bound in interval)
        parts.append(f'<line x1="{low:.1f}" y1="{y}" x2="{high:.1f}" y2="{y}" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<circle cx="{value:.1f}" cy="{y}" r="3.5" fill="{colour}"/>')
    return parts


def _clip(value: float) -> float:
    return min(max(value, 0.0), 1.05)


def scatter_plot(title: str, panels: Mapping[str, Sequence[PointGroup]]) -> str:
    """Draws one panel per text encoder and one colour per group; groups after the first four are crosses on top."""
    names = [group.name for group in next(iter(panels.values()))]
    width = len(panels) * (SIDE + 20) + 20
    height = SIDE + 76 + 18 * ((len(names) + 3) // 4)
    parts = _head(width, height, title, 20, 22)
    for k, (panel, groups) in enumerate(panels.items()):
        left = 20 + k * (SIDE + 20)
        parts.append(f'<text x="{left}" y="44" fill="#333">{escape(panel)} encoder</text>')
        parts.append(f'<rect x="{left}" y="52" width="{SIDE}" height="{SIDE}" fill="none" stroke="#ddd"/>')
        parts += _points(groups, left)
    for i, name in enumerate(names):
        x, y = 20 + (i % 4) * 200, SIDE + 74 + 18 * (i // 4)
        parts.append(_mark(x + 6, y - 4, i))
        parts.append(f'<text x="{x + 16}" y="{y}" fill="#333">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _points(groups: Sequence[PointGroup], left: int) -> list[str]:
    """Draws the points of all groups, scaled to the panel."""
    points = [point for group in groups for point in group.points]
    ranges = [(min(p[axis] for p in points), max(p[axis] for p in points)) for axis in (0, 1)]
    parts = []
    for i, group in enumerate(groups):
        for point in group.points:
            x, y = ((point[axis] - low) / ((high - low) or 1) for axis, (low, high) in enumerate(ranges))
            parts.append(_mark(left + 10 + x * (SIDE - 20), 62 + (1 - y) * (SIDE - 20), i))
    return parts


def _mark(x: float, y: float, group: int) -> str:
    """Draws one point: a circle, or a cross for a later group."""
    colour = GROUP_COLOURS[group % len(GROUP_COLOURS)]
    if group < NUM_CIRCLE_GROUPS:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{colour}" opacity=".8"/>'
    return f'<path d="M{x - 3:.1f} {y - 3:.1f}l6 6m0 -6l-6 6" stroke="{colour}" stroke-width="1.6"/>'
