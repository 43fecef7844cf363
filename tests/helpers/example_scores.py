"""Scores of a good erasure, for tests of results and verdicts."""

from __future__ import annotations

from efface.core.score import DetectorId, Provenance, Score

JUDGE = DetectorId("pocket-judge", "1", 0.5)
PROVENANCE = Provenance("ab12", (1, 2), "ddim", 20, 3.0, extra={"n": [1]})


def score(metric: str, group: str, low: float | None, high: float | None, n: int = 100) -> Score:
    value = None if low is None or high is None else (low + high) / 2
    return Score(metric, group, value, low, high, n, JUDGE, PROVENANCE)


def scores(**changes: Score | None) -> list[Score]:
    """Returns the scores of a good erasure, with some replaced or, for None, left out."""
    good = {
        "rer_name": score("rer", "name", 0.93, 1.0),
        "rer_domain": score("rer", "domain", 0.85, 0.95),
        "abstention_rate_name": score("abstention_rate", "name", 0.01, 0.1),
        "abstention_rate_domain": score("abstention_rate", "domain", 0.01, 0.1),
        "retention_context": score("retention", "context", 0.9, 1.0),
        "retention_near": score("retention", "near", 0.9, 1.0),
        "retention_other": score("retention", "other", 0.95, 1.0),
    }
    return [item for item in (good | changes).values() if item]
