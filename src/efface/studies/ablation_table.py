"""The rows of an ablation as JSON, Markdown table and SVG plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from efface.core.io import atomic_write_json, atomic_write_text

from .plots import Series, interval_plot

LABELS = {"rer": "RER", "retention": "retention", "asr_post": "ASR"}


@dataclass(frozen=True)
class Row:
    """One variant of an ablation.

    Attributes:
        variant: name of the variant.
        settings: the settings that it changes.
        seconds: mean duration of its erasures.
        scores: for each ``metric/group``, the mean over seeds with the lowest and the highest bound of the seeds' 95 %
            intervals; None without a score.
    """

    variant: str
    settings: Mapping[str, Any]
    seconds: float
    scores: Mapping[str, tuple[float, float, float] | None]


def format_row(row: Row) -> str:
    """Formats a row as one line for a terminal."""
    cells = [f"{name} {score[0]:.2f}" if score else f"{name} N/A" for name, score in row.scores.items()]
    return f"{row.variant:24} {'  '.join(cells)}  {row.seconds:.0f} s"


def write(out: Path, metadata: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Writes the study as JSON, as a Markdown table and as an SVG plot."""
    atomic_write_json(out / "ablation.json", {**metadata, "rows": [asdict(row) for row in rows]})
    atomic_write_text(out / "ablation.md", table(rows))
    title = f"{metadata['method']} on {metadata['benchmark']}, {metadata['split']} split"
    atomic_write_text(out / "ablation.svg", plot(rows, title))


def read(path: Path) -> tuple[dict[str, Any], list[Row]]:
    """Reads the JSON file that `write` wrote; returns the metadata and the rows."""
    data = json.loads(path.read_text(encoding="utf-8"))
    rows = []
    for fields in data.pop("rows"):
        scores = {name: tuple(score) if score else None for name, score in fields["scores"].items()}
        rows.append(Row(**{**fields, "scores": scores}))
    return data, rows


def table(rows: Sequence[Row]) -> str:
    """Formats rows as a Markdown table, one line per variant, with intervals in brackets."""
    labels = [_label(name) for name in rows[0].scores]
    lines = [f"| variant | settings | {' | '.join(labels)} | s |", "|---|---|" + "---|" * len(labels) + "---|"]
    for row in rows:
        cells = [
            "N/A" if score is None else f"{score[0]:.2f} [{score[1]:.2f}, {score[2]:.2f}]"
            for score in row.scores.values()
        ]
        settings = ", ".join(f"`{key}={value}`" for key, value in row.settings.items())
        lines.append(f"| {row.variant} | {settings} | {' | '.join(cells)} | {row.seconds:.0f} |")
    return "\n".join(lines) + "\n"


def plot(rows: Sequence[Row], title: str) -> str:
    """Draws rows as SVG: one panel per score, one line per variant."""
    series = [Series(_label(name), [row.scores[name] for row in rows]) for name in rows[0].scores]
    return interval_plot(title, [row.variant for row in rows], series)


def _label(name: str) -> str:
    """Returns a column's label, such as ``RER name`` for ``rer/name``."""
    metric, group = name.split("/")
    return f"{LABELS[metric]} {group}"
