"""The requirements of a verdict, one by one, so that each score can be shown beside its threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from efface.core.result import Result
from efface.core.score import Score
from efface.core.verdict_rules import DEVIATIONS, LIMIT, TARGETS

from .labels import describe_metric, group_label

Status = Literal["met", "missed", "open"]
STATUS_LABELS: dict[Status, str] = {"met": "met", "missed": "missed", "open": "undecided"}


@dataclass(frozen=True)
class Criterion:
    """One requirement of the verdict.

    Attributes:
        metric: Metric of the score, such as ``rer``.
        group: Group of images, such as ``name``, or the label of an attack set.
        threshold: Value to compare the interval with.
        at_least: Whether the score must reach the threshold; otherwise it must stay below.
        min_images: Number of images below which the requirement stays open.
        score: The measured score; None if it was not measured.
    """

    metric: str
    group: str
    threshold: float
    at_least: bool
    min_images: int
    score: Score | None

    @property
    def label(self) -> str:
        """Such as ``RER, name``."""
        group = self.group if self.metric == "asr_post" else group_label(self.group).lower()
        return f"{describe_metric(self.metric).label}, {group}"

    @property
    def requirement(self) -> str:
        """Such as ``at least 0.8``."""
        return f"{'at least' if self.at_least else 'below'} {self.threshold:g}"

    @property
    def status(self) -> Status:
        """Whether the interval proves the requirement, refutes it, or neither; agrees with `Verdict`."""
        score = self.score
        if score is None or score.low is None or score.high is None or score.n < self.min_images:
            return "open"
        if score.low >= self.threshold:
            return "met" if self.at_least else "missed"
        if score.high < self.threshold:
            if self.metric == "asr_post" and {LIMIT, DEVIATIONS} & set(score.provenance.extra):
                return "open"  # an attack that was run in part proves no resistance
            return "missed" if self.at_least else "met"
        return "open"


def verdict_criteria(result: Result) -> list[Criterion]:
    """Every requirement that the result's verdict depends on, the most important first."""
    thresholds = result.thresholds
    attacks = [score.group for score in result.scores if score.metric == "asr_post"]
    requirements = [
        *(("rer", group, thresholds.erased, True) for group in TARGETS),
        ("retention", "near", thresholds.retention_near, True),
        ("retention", "other", thresholds.retention_other, True),
        ("retention", "context", thresholds.context, True),
        *(("abstention_rate", group, thresholds.abstention, False) for group in TARGETS),
        *(("asr_post", attack, thresholds.attack_success, False) for attack in attacks),
    ]
    return [
        Criterion(metric, group, threshold, at_least, thresholds.min_images, result.score(metric, group))
        for metric, group, threshold, at_least in requirements
    ]
