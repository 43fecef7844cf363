"""Results side by side as a Markdown table."""

from __future__ import annotations

from collections.abc import Mapping

from efface.core.errors import EffaceError
from efface.core.result import Result

from .formatting import format_cell

COLUMNS = (
    ("rer", "name"),
    ("rer", "domain"),
    ("retention", "near"),
    ("retention", "other"),
    ("retention", "context"),
    ("kid", "other"),
    ("h_o", "all"),
)
"""Metric and group of each column; a column for each attack follows."""


def markdown_table(results: Mapping[str, Result]) -> str:
    """Renders one row per result and one column per score with its interval; the last column has n of each score.

    Args:
        results: Results by name of the row.

    Raises:
        EffaceError: No results.
    """
    head, *rows = [[_escape(text) for text in row] for row in _rows(results)]
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _rows(results: Mapping[str, Result]) -> list[list[str]]:
    """Head and rows of the table."""
    if not results:
        raise EffaceError("no results to make a table of: evaluate at least one erasure")
    scores = [score for result in results.values() for score in result.scores]
    attacks = dict.fromkeys(score.group for score in scores if score.metric == "asr_post")
    columns = [*COLUMNS, *(("asr_post", attack) for attack in attacks)]
    rows = [["", *(f"{metric}/{group}" for metric, group in columns), "n"]]
    for name, result in results.items():
        row = [result.score(metric, group) for metric, group in columns]
        counts = "/".join("0" if score is None else str(score.n) for score in row)
        rows.append([name, *(format_cell(score) for score in row), counts])
    return rows


def _escape(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())
