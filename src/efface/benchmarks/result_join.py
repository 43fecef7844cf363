"""Joins two results of one erasure on one benchmark, such as an evaluation and later attacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from efface.core.result import Result, Score

SAME = ("erasure_hash", "benchmark", "sampler", "model")
"""Metadata that two results of one erasure share."""
OF_EVALUATION = ("num_images", "limit", "num_excluded", "seed", "versions")
"""Metadata that describe an evaluation."""
EVALUATED = ("rer", "name")


def is_same_erasure(first: Result, second: Result) -> bool:
    """Returns whether two results measure one erasure on one benchmark with one sampler; both must name the erasure."""
    return "erasure_hash" in first.metadata and all(
        first.metadata.get(name) == second.metadata.get(name) for name in SAME
    )


def join(first: Result, second: Result) -> Result:
    """Returns one result with the scores of both: of two scores of one metric and group, that of more images.

    Args:
        first: its scores and metadata come first, and stay where both have as many images.
        second: a result of the same erasure (`is_same_erasure`).
    """
    scores = {(score.metric, score.group): score for score in first.scores}
    for score in second.scores:
        earlier = scores.setdefault((score.metric, score.group), score)
        if _count(score) > _count(earlier):
            scores[score.metric, score.group] = score
    evaluation = second if _evaluated(second) > _evaluated(first) else first
    described = {name: evaluation.metadata[name] for name in OF_EVALUATION if name in evaluation.metadata}
    both = {**second.metadata, **first.metadata}
    others = {name: value for name, value in both.items() if name not in OF_EVALUATION}
    seconds = {**_attack_seconds(second), **_attack_seconds(first)}
    metadata = {**others, **described} | ({"attack_seconds": seconds} if seconds else {})
    return replace(first, scores=tuple(scores.values()), metadata=metadata)


def _count(score: Score | None) -> int:
    return score.n if score is not None and score.value is not None else 0


def _evaluated(result: Result) -> int:
    return _count(result.score(*EVALUATED))


def _attack_seconds(result: Result) -> Mapping[str, Any]:
    seconds: Mapping[str, Any] = result.metadata.get("attack_seconds") or {}
    return seconds
