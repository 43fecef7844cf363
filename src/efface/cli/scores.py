"""Results as JSON values and as text for a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.core.result import Result
from efface.core.score import Score
from efface.core.verdict import Verdict

if TYPE_CHECKING:
    from rich.text import Text

SHOWN_METRICS = (
    "rer", "abstention_rate", "retention", "asr_pre", "asr_post", "kid", "fid", "fid_before", "clip_score", "h_o",
)  # fmt: skip
"""Metrics of the text; JSON holds all."""


STYLES = {"good": "bold green", "warn": "bold yellow", "bad": "bold red", "unsure": "bold bright_black"}
"""Rich style of a verdict, by its rating."""


def result_as_data(result: Result) -> dict[str, Any]:
    """Converts scores, verdict and metadata to JSON values."""
    verdict = {**result.to_dict()["verdict"], "text": result.summary()}
    return {
        "scores": [score.to_dict() for score in result.scores],
        "verdict": verdict,
        "metadata": dict(result.metadata),
    }


def result_as_text(result: Result, folder: Path) -> Text:
    """Formats the main scores, one per line, then the verdict and the next step."""
    from rich.text import Text

    lines = [format_score(score) for score in result.scores if score.metric in SHOWN_METRICS]
    reasons = [f"  {reason}" for reason in result.verdict.reasons]
    scores = "\n".join([*lines, "", *reasons, ""])
    return Text.assemble(scores, verdict_as_text(result.verdict, result, folder))


def verdict_as_text(verdict: Verdict, result: Result, folder: Path) -> Text:
    """Formats the verdict as one line in its colour, and the next step below it."""
    from rich.text import Text

    from efface.reporting.next_step import next_step
    from efface.reporting.view_models import verdict_badge

    style = STYLES[verdict_badge(verdict).tone]
    return Text.assemble((verdict.headline, style), f"\nnext: {next_step(verdict, result, str(folder))}")


def format_score(score: Score) -> str:
    """Formats one score in aligned columns: metric, group, value, interval and sample size."""
    value = "N/A" if score.value is None else f"{score.value:.3f}"
    interval = "" if score.low is None or score.high is None else f"[{score.low:.3f}, {score.high:.3f}]"
    return f"{score.metric:12} {score.group:10} {value:>8} {interval:20} n={score.n}"
