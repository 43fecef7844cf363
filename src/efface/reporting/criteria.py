"""What a verdict asks of the scores, one requirement at a time, so that each number can be shown beside its threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from efface.core.result import Result
from efface.core.score import Score
from efface.core.verdict import TARGETS

from .formatting import group_label, metric

Status = Literal["met", "missed", "open"]
WORDS: dict[Status, str] = {"met": "met", "missed": "missed", "open": "undecided"}


@dataclass(frozen=True)
class Criterion:
    """One requirement of the verdict.

    Attributes:
        metric: of the score. group: of the score.
        limit: the threshold.
        at_least: whether the score must reach it; otherwise it must stay below.
        images: fewer images decide nothing.
        score: what was measured; None where it was not.
    """

    metric: str
    group: str
    limit: float
    at_least: bool
    images: int
    score: Score | None

    @property
    def label(self) -> str:
        """Such as ``RER, name``."""
        return f"{metric(self.metric).label}, {self.group if self.metric == 'asr_post' else group_label(self.group).lower()}"

    @property
    def requirement(self) -> str:
        """Such as ``at least 0.8``."""
        return f"{'at least' if self.at_least else 'below'} {self.limit:g}"

    @property
    def status(self) -> Status:
        """Whether the interval proves the requirement, refutes it, or neither: the reading that `Verdict` has."""
        score = self.score
        if score is None or score.low is None or score.high is None or score.n < self.images:
            return "open"
        if score.low >= self.limit:
            return "met" if self.at_least else "missed"
        if score.high < self.limit:
            return "missed" if self.at_least else "met"
        return "open"


def criteria(result: Result) -> list[Criterion]:
    """Every requirement that the result's verdict reads, in the order of importance."""
    limits = result.thresholds
    wanted = [("rer", group, limits.erased, True) for group in TARGETS]
    wanted += [("retention", "near", limits.retention_near, True), ("retention", "other", limits.retention_other, True)]
    wanted += [("retention", "context", limits.context, True)]
    wanted += [("abstention_rate", group, limits.abstention, False) for group in TARGETS]
    wanted += [
        ("asr_post", score.group, limits.attack_success, False) for score in result.scores if score.metric == "asr_post"
    ]
    return [
        Criterion(name, group, limit, up, limits.min_images, result.score(name, group))
        for name, group, limit, up in wanted
    ]
