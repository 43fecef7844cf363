"""Results as JSON values and as text for a terminal."""

from __future__ import annotations

from typing import Any

from efface.core.result import Result
from efface.core.score import Score

SHOWN_METRICS = (
    "rer", "abstention_rate", "retention", "asr_pre", "asr_post", "kid", "fid", "fid_before", "clip_score", "h_o",
)  # fmt: skip
"""Metrics of the text; JSON holds all."""


def result_as_data(result: Result) -> dict[str, Any]:
    """Converts scores, verdict and metadata to JSON values."""
    verdict = {**result.to_dict()["verdict"], "text": result.summary()}
    return {
        "scores": [score.to_dict() for score in result.scores],
        "verdict": verdict,
        "metadata": dict(result.metadata),
    }


def result_as_text(result: Result) -> str:
    """Formats the main scores, one per line, and the verdict."""
    lines = [format_score(score) for score in result.scores if score.metric in SHOWN_METRICS]
    return "\n".join([*lines, "", result.summary()])


def format_score(score: Score) -> str:
    """Formats one score in aligned columns: metric, group, value, interval and sample size."""
    value = "N/A" if score.value is None else f"{score.value:.3f}"
    interval = "" if score.low is None or score.high is None else f"[{score.low:.3f}, {score.high:.3f}]"
    return f"{score.metric:12} {score.group:10} {value:>8} {interval:20} n={score.n}"
