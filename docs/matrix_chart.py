"""A heat map of the matrix: what is left of the concept without and under attacks, and what else is lost.

Every cell is a share of images in percent, and dark is bad in every column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape

from matrix_tables import Results, evaluation_of, read_matrix

from efface.core.registry import ATTACKS, METHODS
from efface.core.result import Result
from efface.reporting.leaderboard import ERASED, KEPT, group_mean

LABEL_WIDTH, CELL, ROW_HEIGHT, GAP, HEAD_HEIGHT, MARGIN = 140, 23, 18, 10, 142, 40
"""Pixels: the methods' names, a cell's width and height, between panels, above and right of the cells."""
TITLE = ("Share of images in percent: the concept is back,", "or others are lost. Dark is bad; grey: no number.")
TITLE_HEIGHT = 44
PANELS_PER_ROW = 3
LEFT, LOST = "name, no attack", "others lost"
LIGHT, DARK, MISSING = (255, 247, 236), (127, 0, 0), "#eceff1"

Cells = Mapping[str, float | None]
"""By column a share of images."""


@dataclass(frozen=True)
class Panel:
    """One benchmark: columns by method."""

    benchmark: str
    rows: Mapping[str, Cells]


def matrix_chart(benchmarks: Sequence[str] = ()) -> str:
    """Returns the chart as SVG, of all benchmarks by default."""
    found = [(name, rows) for name, rows in _ordered(read_matrix()) if not benchmarks or name in benchmarks]
    panels = [Panel(name, _cells(name, rows)) for name, rows in found]
    methods = [name for name in METHODS.names() if any(name in panel.rows for panel in panels)]
    cells = [each for panel in panels for each in panel.rows.values()]
    columns = [LEFT, *(name for name in ATTACKS.names() if any(name in each for each in cells)), LOST]
    panel_width, panel_height = len(columns) * CELL + GAP, HEAD_HEIGHT + len(methods) * ROW_HEIGHT
    width = LABEL_WIDTH + min(len(panels), PANELS_PER_ROW) * panel_width + MARGIN
    height = TITLE_HEIGHT + -(-len(panels) // PANELS_PER_ROW) * (panel_height + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" '
        f'width="{width}" font-size="12" fill="#1a1a1a">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        *(f'<text x="10" y="{18 + 17 * i}" font-size="12" font-weight="600">{t}</text>' for i, t in enumerate(TITLE)),
    ]
    for number, panel in enumerate(panels):
        top = TITLE_HEIGHT + number // PANELS_PER_ROW * (panel_height + GAP)
        if number % PANELS_PER_ROW == 0:
            parts += [_label(top + HEAD_HEIGHT + row * ROW_HEIGHT, method) for row, method in enumerate(methods)]
        parts += _panel(LABEL_WIDTH + number % PANELS_PER_ROW * panel_width, top, panel, methods, columns)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _label(y: float, method: str) -> str:
    return f'<text x="10" y="{y + 13}">{escape(METHODS.card(method).title.partition(" (")[0])}</text>'


def _panel(left: float, top: float, panel: Panel, methods: Sequence[str], columns: Sequence[str]) -> list[str]:
    first = top + HEAD_HEIGHT
    parts = [f'<text x="{left}" y="{top + 14}" font-weight="600">{escape(panel.benchmark)}</text>']
    parts += [_head(left + (i + 0.5) * CELL, first - 6, name) for i, name in enumerate(columns)]
    for row, method in enumerate(methods):
        cells, y = panel.rows.get(method, {}), first + row * ROW_HEIGHT
        parts += [_cell(left + i * CELL, y, cells.get(name)) for i, name in enumerate(columns)]
    return parts


def _ordered(results: Results) -> list[tuple[str, dict[str, Result]]]:
    """Returns the benchmarks with their results; that of most methods comes first."""
    return sorted(results.items(), key=lambda item: (-len(item[1]), item[0]))


def _cells(benchmark: str, results: Mapping[str, Result]) -> dict[str, Cells]:
    """Returns the columns of each method on one benchmark."""
    rows: dict[str, Cells] = {}
    for method, result in results.items():
        measured = evaluation_of(benchmark, method, result)
        erased = measured.score(*ERASED[0])
        kept = group_mean(measured, KEPT)
        rows[method] = {
            LEFT: None if erased is None or erased.value is None else 1 - erased.value,
            **{attack: score.value for attack, score in result.attack_scores().items()},
            LOST: None if kept is None else 1 - kept,
        }
    return rows


def _head(x: float, y: float, name: str) -> str:
    return f'<text x="{x}" y="{y}" transform="rotate(-60 {x} {y})">{escape(name.replace("_", " "))}</text>'


def _cell(x: float, y: float, value: float | None) -> str:
    size = f'x="{x}" y="{y}" width="{CELL - 1}" height="{ROW_HEIGHT - 1}"'
    if value is None:
        return f'<rect {size} fill="{MISSING}"/>'
    share = min(max(value, 0.0), 1.0)
    colour = ", ".join(str(round(a + (b - a) * share)) for a, b in zip(LIGHT, DARK, strict=True))
    text = "#fff" if share > 0.45 else "#1a1a1a"
    label = f'<text x="{x + CELL / 2}" y="{y + 12.5}" text-anchor="middle" font-size="10" fill="{text}">'
    return f'<rect {size} fill="rgb({colour})"/>{label}{round(100 * share)}</text>'


CHARTS = {"matrix.svg": matrix_chart, "matrix_weapon.svg": partial(matrix_chart, ["pocket-weapon"])}
