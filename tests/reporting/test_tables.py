"""Markdown tables of results."""

from __future__ import annotations

import pytest
from artifact_folder import rate, result

from efface.core.errors import EffaceError
from efface.core.result import Result, Score
from efface.reporting.tables import markdown_table


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| ").split(" | ")]


def test_every_score_is_in_its_column() -> None:
    bare = Result((Score("rer", "name", 0.95, 0.91, 0.98, 120), rate("retention", "near", 30, 60)))
    head, rule, first, second = markdown_table({"esd": bare, "sage": result()}).splitlines()
    columns = [cell.strip() for cell in head.split("|")[2:-1]]
    scores = [
        "rer/name",
        "rer/domain",
        "retention/near",
        "retention/other",
        "retention/context",
        "kid/other",
        "h_o/all",
        "asr_post/synonyms",
    ]
    assert columns == [*scores, "n"]
    assert set(rule) <= set("|-: ")
    row = dict(zip(["name", *columns], cells(first), strict=True))
    assert row["name"] == "esd"
    assert row["rer/name"] == "0.95 [0.91, 0.98]"
    assert row["retention/near"] == "0.50 [0.38, 0.62]"
    assert row["rer/domain"] == row["asr_post/synonyms"] == "N/A"
    assert row["n"] == "120/0/60/0/0/0/0/0"
    other = dict(zip(["name", *columns], cells(second), strict=True))
    assert other["kid/other"] == "0.0012 [0.0004, 0.0021]"
    assert other["asr_post/synonyms"] == "0.03 [0.01, 0.08]"


def test_names_are_escaped() -> None:
    row = markdown_table({"a|b <i>\nc": result()}).splitlines()[2]
    assert row.startswith("| a\\|b &lt;i> c | ")


def test_table_without_results_is_refused() -> None:
    with pytest.raises(EffaceError, match="no results"):
        markdown_table({})
