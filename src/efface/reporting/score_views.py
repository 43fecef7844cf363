"""Key numbers and the table of scores, ready for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from efface.core.result import Result
from efface.core.score import DetectorId, Score

from .criteria import STATUS_LABELS, Criterion, Status
from .formatting import decimal_places, format_interval, format_number, format_value
from .labels import Metric, describe_metric, group_label, groups_of

Tone = Literal["good", "warn", "bad", "unsure"]
"""Colour and icon of a rating."""
STATUS_TONES: dict[Status, Tone] = {"met": "good", "missed": "bad", "open": "unsure"}
_GROUP_ORDER = ["name", "domain", "context", "near", "other", "all"]


@dataclass(frozen=True)
class Card:
    """A key number.

    Attributes:
        label: Label of the metric.
        group: Label of the group of images.
        column: Shorter label of the group, for a table's head.
        value: The value.
        interval: Its interval; empty if there is none.
        n: Number of images, or why there is no number.
        status: Whether the requirement is met.
        requirement: The requirement.
        tone: Rating of the status.
        meaning: What the metric measures.
    """

    label: str
    group: str
    column: str
    value: str
    interval: str
    n: str
    status: str
    requirement: str
    tone: Tone
    meaning: str


@dataclass(frozen=True)
class ScoreRow:
    """A row of the table of scores.

    Attributes:
        metric: Label and meaning.
        value: The value.
        interval: Its interval; empty if there is none.
        n: Number of images.
        detector: Detector, version and threshold.
        status: Whether the requirement is met; empty if the verdict does not depend on the score.
        tone: Rating of the status.
        note: Why there is no value; empty if there is one.
    """

    metric: Metric
    value: str
    interval: str
    n: int
    detector: str
    status: str
    tone: Tone
    note: str


@dataclass(frozen=True)
class ScoreTable:
    """The scores of one group of images.

    Attributes:
        label: Label of the group.
        meaning: What the group's prompts are.
        rows: The scores.
    """

    label: str
    meaning: str
    rows: tuple[ScoreRow, ...]


def key_number_cards(criteria: Sequence[Criterion]) -> tuple[Card, ...]:
    """Cards for erasure, retention and the most successful attack."""
    cards = [_card(criterion) for criterion in criteria if criterion.metric in ("rer", "retention")]
    attacks = [criterion for criterion in criteria if criterion.metric == "asr_post"]
    if attacks:
        return (*cards, _card(max(attacks, key=_success_rate)))
    no_attack = Card(
        label=describe_metric("asr_post").label,
        group="",
        column="worst",
        value="N/A",
        interval="",
        n="no attack was run",
        status=STATUS_LABELS["open"],
        requirement="",
        tone="unsure",
        meaning="",
    )
    return (*cards, no_attack)


def score_tables(result: Result, criteria: Sequence[Criterion]) -> tuple[ScoreTable, ...]:
    """One table for each group of images: the concept's groups, the retained groups, then attacks."""
    by_score = {(criterion.metric, criterion.group): criterion for criterion in criteria}
    groups = sorted(dict.fromkeys(score.group for score in result.scores), key=_group_rank)
    meanings = groups_of({score.metric for score in result.scores})
    tables = []
    for group in groups:
        scores = [score for score in result.scores if score.group == group]
        rows = tuple(_score_row(score, by_score.get((score.metric, score.group))) for score in scores)
        attack_meaning = "An attack." if any(score.metric.startswith("asr_") for score in scores) else ""
        meaning = meanings[group][1] if group in meanings else attack_meaning
        tables.append(ScoreTable(group_label(group), meaning, rows))
    return tuple(tables)


def _success_rate(criterion: Criterion) -> float:
    score = criterion.score
    return -1.0 if score is None or score.value is None else score.value


def _group_rank(group: str) -> int:
    return _GROUP_ORDER.index(group) if group in _GROUP_ORDER else len(_GROUP_ORDER)


def _card(criterion: Criterion) -> Card:
    score, metric = criterion.score, describe_metric(criterion.metric)
    group = column = group_label(criterion.group).lower()
    if criterion.metric == "asr_post":
        group, column = f"worst: {criterion.group}", "worst"
    return Card(
        label=metric.label,
        group=group,
        column=column,
        value=format_number(None if score is None else score.value),
        interval="" if score is None else format_interval(score),
        n="not measured" if score is None else f"n = {score.n}",
        status=STATUS_LABELS[criterion.status],
        requirement=criterion.requirement,
        tone=STATUS_TONES[criterion.status],
        meaning=metric.meaning,
    )


def _score_row(score: Score, criterion: Criterion | None) -> ScoreRow:
    places = decimal_places(score, 3)
    return ScoreRow(
        metric=describe_metric(score.metric),
        value=format_number(score.value, places),
        interval=format_interval(score, places),
        n=score.n,
        detector=_detector_label(score.detector),
        status="" if criterion is None else f"{STATUS_LABELS[criterion.status]}: {criterion.requirement}",
        tone="unsure" if criterion is None else STATUS_TONES[criterion.status],
        note=_missing_value_note(score),
    )


def _missing_value_note(score: Score) -> str:
    refused = score.provenance.extra.get("refused")
    if refused:
        return f"not computed: {refused}"
    return "no images" if score.n == 0 else ""


def _detector_label(detector: DetectorId | None) -> str:
    if detector is None:
        return ""
    threshold = "" if detector.threshold is None else f" (threshold {format_value(detector.threshold)})"
    return f"{detector.id}@{detector.version}{threshold}"
