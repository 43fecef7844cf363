"""One evaluation as the page shows it: badges, key numbers, tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from efface.core.result import Result
from efface.core.score import Score
from efface.core.serialization import json_hash
from efface.core.spec import RunSpec

from .charts import Chart, bars, changes
from .criteria import WORDS, Criterion, criteria
from .evidence_loader import LoadedEvaluation
from .formatting import (
    GROUPS,
    Metric,
    digits_of,
    flatten,
    format_interval,
    format_number,
    format_range,
    format_value,
    group_label,
    metric,
    shorten,
)
from .image_pairs import PairGrid, pair_grids

Tone = Literal["good", "warn", "bad", "unsure"]
_TONES: dict[str, Tone] = {
    "erased": "good", "partly erased": "warn", "not erased": "bad", "kept": "good", "damaged": "bad", "withstands": "good",
}  # fmt: skip
_STANDING: dict[str, Tone] = {"met": "good", "missed": "bad", "open": "unsure"}


@dataclass(frozen=True)
class Badge:
    """One part of the verdict in a word, and the colour that goes with it."""

    title: str
    word: str
    tone: Tone


@dataclass(frozen=True)
class Card:
    """A key number: label and group (as a column's name, too), value, interval, n, how it stands to what is wished, what it means."""

    label: str
    group: str
    column: str
    value: str
    interval: str
    n: str
    standing: str
    wish: str
    tone: Tone
    meaning: str


@dataclass(frozen=True)
class ScoreRow:
    """A line of the table of scores."""

    metric: Metric
    value: str
    interval: str
    n: int
    detector: str
    standing: str
    tone: Tone
    note: str


@dataclass(frozen=True)
class ReportView:
    """An evaluation, ready to be laid out."""

    evaluation: LoadedEvaluation
    passed: Badge
    badges: tuple[Badge, ...]
    cards: tuple[Card, ...]
    grids: tuple[PairGrid, ...]
    missing: int
    tables: tuple[tuple[str, str, tuple[ScoreRow, ...]], ...]
    bars: Chart
    changes: Chart
    about: tuple[tuple[str, str], ...]
    sources: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, evaluation: LoadedEvaluation, spec: RunSpec) -> ReportView:
        """The view of an evaluation of the erasure with that spec."""
        result = evaluation.result
        wanted, shown = criteria(result), pair_grids(evaluation)
        images = [image for grid in shown for pair in grid.pairs for image in (pair.before, pair.after) if image]
        return cls(
            evaluation, passed(result), badges(result), _cards(wanted), tuple(shown),
            sum(not image.uri for image in images), _tables(result, wanted), bars(wanted), changes(evaluation.interference),
            tuple(flatten(result.metadata)), _sources(result.scores), _notes(result, spec),
        )  # fmt: skip


def badges(result: Result) -> tuple[Badge, ...]:
    """Erasure, retention and attack in a word each."""
    verdict = result.verdict
    parts = (("The concept", verdict.erasure), ("Everything else", verdict.retention), ("Under attack", verdict.attack))
    return tuple(
        Badge(title, word, "bad" if word.startswith("broken") else _TONES.get(word, "unsure")) for title, word in parts
    )


def passed(result: Result) -> Badge:
    """The verdict as a whole."""
    tones = {badge.tone for badge in badges(result)}
    if result.verdict.passed:
        return Badge("Verdict", "passed, not attacked" if result.verdict.attack == "not attacked" else "passed", "good")
    return Badge("Verdict", "not passed", "bad" if "bad" in tones else "warn" if "warn" in tones else "unsure")


def _cards(wanted: Sequence[Criterion]) -> tuple[Card, ...]:
    """The key numbers: of several attacks the worst."""
    attacks = [c for c in wanted if c.metric == "asr_post"]
    worst = max(attacks, key=lambda c: c.score.value if c.score and c.score.value is not None else -1.0, default=None)
    last = (
        _card(worst)
        if worst
        else Card("ASR, post", "", "worst", "N/A", "", "no attack was tried", WORDS["open"], "", "unsure", "")
    )
    return (*(_card(c) for c in wanted if c.metric in ("rer", "retention")), last)


def _card(criterion: Criterion) -> Card:
    score, attack = criterion.score, criterion.metric == "asr_post"
    group, column = (f"worst: {criterion.group}", "worst") if attack else (group_label(criterion.group).lower(),) * 2
    numbers = (
        ("N/A", "", "not measured")
        if score is None
        else (format_number(score.value), format_interval(score), f"n = {score.n}")
    )
    standing, tone = WORDS[criterion.status], _STANDING[criterion.status]
    return Card(
        metric(criterion.metric).label,
        group,
        column,
        *numbers,
        standing,
        criterion.requirement,
        tone,
        metric(criterion.metric).meaning,
    )


def _tables(result: Result, wanted: Sequence[Criterion]) -> tuple[tuple[str, str, tuple[ScoreRow, ...]], ...]:
    known = {(c.metric, c.group): c for c in wanted}
    names = ["name", "domain", "context", "near", "other", "all"]
    groups = sorted(
        dict.fromkeys(score.group for score in result.scores),
        key=lambda g: names.index(g) if g in names else len(names),
    )
    found = []
    for group in groups:
        rows = tuple(
            _row(score, known.get((score.metric, score.group))) for score in result.scores if score.group == group
        )
        found.append((group_label(group), GROUPS[group][1] if group in GROUPS else _attack_meaning(rows), rows))
    return tuple(found)


def _attack_meaning(rows: Sequence[ScoreRow]) -> str:
    return "An attack." if any(row.metric.label.startswith("ASR") for row in rows) else ""


def _row(score: Score, criterion: Criterion | None) -> ScoreRow:
    detector = score.detector
    judged = "" if detector is None else f"{detector.id}@{detector.version}"
    judged += (
        "" if detector is None or detector.threshold is None else f" (threshold {format_value(detector.threshold)})"
    )
    refused, places = score.provenance.extra.get("refused"), digits_of(score, 3)
    note = f"not stated: {refused}" if refused else "no images" if score.n == 0 else ""
    standing = "" if criterion is None else f"{WORDS[criterion.status]}: {criterion.requirement}"
    tone = _STANDING[criterion.status] if criterion else "unsure"
    return ScoreRow(
        metric(score.metric),
        format_number(score.value, places),
        format_interval(score, places),
        score.n,
        judged,
        standing,
        tone,
        note,
    )


def _sources(scores: Sequence[Score]) -> tuple[tuple[str, ...], ...]:
    """How the images came about, once for all scores that share it: scores, prompts, seeds, sampler, budget, the rest."""
    found: dict[str, list[Score]] = {}
    for score in scores:
        found.setdefault(json_hash(score.provenance), []).append(score)
    return tuple(_source(group) for group in found.values())


def _source(scores: Sequence[Score]) -> tuple[str, ...]:
    how = scores[0].provenance
    sampler = how.sampler + (f", {how.num_inference_steps} steps" if how.num_inference_steps is not None else "")
    sampler += f", guidance {how.guidance_scale:g}" if how.guidance_scale is not None else ""
    budget = [] if how.attack_steps is None else [f"{how.attack_steps} steps"]
    budget += [] if how.attack_seconds is None else [f"{how.attack_seconds:.1f} s"]
    rest = "; ".join(f"{name}: {value}" for name, value in flatten(how.extra))
    names = ", ".join(f"{score.metric}/{score.group}" for score in scores)
    return (names, shorten(how.prompts), format_range(how.seeds), sampler, ", ".join(budget), rest)


def _notes(result: Result, spec: RunSpec) -> tuple[str, ...]:
    """What a reader must know before believing the numbers."""
    about, notes = result.metadata, []
    benchmark = about.get("benchmark")
    if about.get("run") not in (None, spec.hash):
        notes.append("These numbers were measured on another run than the one in this folder: evaluate again.")
    if isinstance(benchmark, dict) and benchmark.get("part") == "dev":
        notes.append(
            "Measured on the dev part, which is for choosing hyper-parameters: report numbers of the test part."
        )
    if about.get("limit") is not None:
        notes.append(f"Limited to {about['limit']} images a group: not the whole benchmark.")
    if about.get("left_out"):
        notes.append(f"{about['left_out']} images ask for another concept that was erased, too, and are left out.")
    if about.get("model") not in (None, spec.model):
        notes.append(f"Measured on {about['model']}, made for {spec.model}: a transfer.")
    return tuple(notes)
