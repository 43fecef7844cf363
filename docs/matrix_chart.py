"""A heat map of the matrix: what is left of the concept without and under attacks, and what else is lost.

Every cell is a share of images in percent, and dark is bad in every column.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from statistics import mean

from matrix_tables import ERASED, Results, evaluation_of, read_matrix

from efface.core.registry import ATTACKS, METHODS
from efface.core.result import Result
from efface.reporting.leaderboard import KEPT

LABEL_WIDTH, CELL, ROW_HEIGHT, GAP, HEAD_HEIGHT, MARGIN = 150, 25, 19, 12, 170, 50
LEFT, LOST = "name, no attack", "others lost"
LIGHT, DARK, MISSING = (255, 247, 236), (127, 0, 0), "#eceff1"

Cells = Mapping[str, float | None]
"""By column a share of images."""


def matrix_chart() -> str:
    """Returns the chart as SVG."""
    panels = {benchmark: _cells(benchmark, rows) for benchmark, rows in _ordered(read_matrix())}
    methods = [name for name in METHODS.names() if any(name in rows for rows in panels.values())]
    attacks = [name for name in ATTACKS.names() if any(name in cells for p in panels.values() for cells in p.values())]
    columns = [LEFT, *attacks, LOST]
    panel_width = len(columns) * CELL + GAP
    width = LABEL_WIDTH + len(panels) * panel_width + MARGIN
    height = HEAD_HEIGHT + len(methods) * ROW_HEIGHT + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" '
        'font-size="12" fill="#1a1a1a">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        '<text x="10" y="22" font-size="15" font-weight="600">Share of images in percent: the concept is back, or '
        "something else is lost. Dark is bad, grey was not measured.</text>",
    ]
    for row, method in enumerate(methods):
        title = escape(METHODS.card(method).title.partition(" (")[0])
        parts.append(f'<text x="10" y="{HEAD_HEIGHT + row * ROW_HEIGHT + 14}">{title}</text>')
    for number, (benchmark, rows) in enumerate(panels.items()):
        left = LABEL_WIDTH + number * panel_width
        parts.append(f'<text x="{left}" y="46" font-weight="600">{escape(benchmark)}</text>')
        parts += [_head(left + (i + 0.5) * CELL, name) for i, name in enumerate(columns)]
        for row, method in enumerate(methods):
            cells, y = rows.get(method, {}), HEAD_HEIGHT + row * ROW_HEIGHT
            parts += [_cell(left + i * CELL, y, cells.get(name)) for i, name in enumerate(columns)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _ordered(results: Results) -> list[tuple[str, dict[str, Result]]]:
    """Returns the benchmarks with their results; that of most methods comes first."""
    return sorted(results.items(), key=lambda item: (-len(item[1]), item[0]))


def _cells(benchmark: str, results: Mapping[str, Result]) -> dict[str, Cells]:
    """Returns the columns of each method on one benchmark."""
    rows: dict[str, Cells] = {}
    for method, result in results.items():
        measured = evaluation_of(benchmark, method, result)
        erased = measured.score(*ERASED[0])
        kept = [score.value for key in KEPT if (score := measured.score(*key)) and score.value is not None]
        rows[method] = {
            LEFT: None if erased is None or erased.value is None else 1 - erased.value,
            **{attack: score.value for attack, score in result.attack_scores().items()},
            LOST: 1 - mean(kept) if kept else None,
        }
    return rows


def _head(x: float, name: str) -> str:
    text = escape(name.replace("_", " "))
    return f'<text x="{x}" y="{HEAD_HEIGHT - 6}" transform="rotate(-60 {x} {HEAD_HEIGHT - 6})">{text}</text>'


def _cell(x: float, y: float, value: float | None) -> str:
    size = f'x="{x}" y="{y}" width="{CELL - 1}" height="{ROW_HEIGHT - 1}"'
    if value is None:
        return f'<rect {size} fill="{MISSING}"/>'
    share = min(max(value, 0.0), 1.0)
    colour = ", ".join(str(round(a + (b - a) * share)) for a, b in zip(LIGHT, DARK, strict=True))
    text = "#fff" if share > 0.45 else "#1a1a1a"
    label = f'<text x="{x + CELL / 2}" y="{y + 13}" text-anchor="middle" font-size="10" fill="{text}">'
    return f'<rect {size} fill="rgb({colour})"/>{label}{round(100 * share)}</text>'


CHARTS = {"matrix.svg": matrix_chart}
