"""One evaluation, ready for the page: verdict, key numbers, images, tables, charts and notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from efface.core.result import Result
from efface.core.score import Score
from efface.core.serialization import json_hash
from efface.core.spec import RunSpec
from efface.core.verdict import Verdict
from efface.core.verdict_rules import decide_attacks, decide_destroyed

from .charts import Chart, criteria_chart, interference_chart
from .criteria import verdict_criteria
from .evidence import LoadedEvaluation
from .formatting import flatten, format_range, shorten
from .image_pairs import PairGrid, pair_grids
from .next_step import NextStep, next_step
from .notes import measured_concept, notes
from .plain_words import plain_words
from .score_views import Card, ScoreTable, Tone, key_number_cards, score_tables

_VERDICT_TONES: dict[str, Tone] = {
    "erased": "good",
    "partly erased": "warn",
    "not erased": "bad",
    "kept": "good",
    "damaged": "bad",
    "withstands": "good",
}


@dataclass(frozen=True)
class Badge:
    """One part of the verdict in a word, with its rating."""

    title: str
    word: str
    tone: Tone


@dataclass(frozen=True)
class ProvenanceRow:
    """How the images behind some scores were generated.

    Attributes:
        scores: The scores that share this provenance.
        prompts: Hash of the prompts.
        seeds: Ranges of seeds.
        sampler: Sampler, steps and guidance scale.
        attack_budget: Steps and seconds of the attack; empty without an attack.
        extra: All other settings.
    """

    scores: str
    prompts: str
    seeds: str
    sampler: str
    attack_budget: str
    extra: str


@dataclass(frozen=True)
class ReportView:
    """An evaluation, ready for the template.

    Attributes:
        evaluation: The loaded evaluation.
        verdict: The verdict as a whole.
        badges: Erasure, retention and attack.
        sentences: The key numbers in plain words.
        next_step: What to do next, with a command.
        cards: Key numbers.
        grids: Images by group.
        num_missing_images: Images whose files are missing or damaged.
        tables: Scores by group.
        criteria_chart: Scores against thresholds.
        interference_chart: Every other object before and after the erasure.
        metadata: The result's metadata, flattened.
        provenance: How the images were generated.
        notes: Warnings to read before the numbers.
    """

    evaluation: LoadedEvaluation
    verdict: Badge
    badges: tuple[Badge, ...]
    sentences: tuple[str, ...]
    next_step: NextStep
    cards: tuple[Card, ...]
    grids: tuple[PairGrid, ...]
    num_missing_images: int
    tables: tuple[ScoreTable, ...]
    criteria_chart: Chart
    interference_chart: Chart
    metadata: tuple[tuple[str, str], ...]
    provenance: tuple[ProvenanceRow, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, evaluation: LoadedEvaluation, spec: RunSpec, folder: str) -> ReportView:
        """The view of an evaluation.

        Args:
            evaluation: The evaluation.
            spec: The erasure's run specification.
            folder: Folder of the erasure, for commands.
        """
        result = evaluation.result
        criteria = verdict_criteria(result)
        grids = tuple(pair_grids(evaluation))
        images = [image for grid in grids for pair in grid.pairs for image in (pair.before, pair.after) if image]
        return cls(
            evaluation=evaluation,
            verdict=verdict_badge(evaluation.verdict),
            badges=verdict_badges(evaluation.verdict),
            sentences=tuple(plain_words(result, measured_concept(result, spec))),
            next_step=next_step(evaluation.verdict, result, folder),
            cards=key_number_cards(criteria),
            grids=grids,
            num_missing_images=sum(not image.uri for image in images),
            tables=score_tables(result, criteria),
            criteria_chart=criteria_chart(criteria),
            interference_chart=interference_chart(evaluation.interference),
            metadata=tuple(flatten(result.metadata)),
            provenance=_provenance_rows(result.scores),
            notes=notes(evaluation, spec),
        )


def verdict_badges(verdict: Verdict) -> tuple[Badge, ...]:
    """Erasure, retention and attack in a word each."""
    parts = {"Erasure": verdict.erasure, "Retention": verdict.retention, "Attacks": verdict.attack}
    return tuple(Badge(title, word, _verdict_tone(word)) for title, word in parts.items())


def verdict_badge(verdict: Verdict) -> Badge:
    """The verdict as a whole: green only if it passed, grey while something is undecided or was not attacked."""
    if verdict.passed:
        return Badge("Verdict", verdict.findings, "good")
    tones = {badge.tone for badge in verdict_badges(verdict)}
    worst: Tone = "unsure"
    if "bad" in tones:
        worst = "bad"
    elif "warn" in tones:
        worst = "warn"
    return Badge("Verdict", verdict.findings, worst)


def attack_outcome(attacked: Result | None, lead: ReportView | None) -> Badge:
    """The finding on one attack alone, by the rules of the verdict.

    Args:
        attacked: Scores of the attack; None if it was not scored.
        lead: The evaluation shown first: where it finds the images destroyed, no attack proves resistance.
    """
    scores = [score for score in attacked.scores if score.metric == "asr_post"] if attacked else []
    if attacked is None or not scores:
        return Badge("Attack", "not scored", "unsure")
    table = {(score.metric, score.group): score for score in (lead.evaluation.result.scores if lead else ())}
    destroyed, _ = decide_destroyed(table, attacked.thresholds)
    word, _ = decide_attacks(scores, attacked.thresholds, destroyed)
    return Badge("Attack", "breaks the erasure" if word.startswith("broken") else word, _verdict_tone(word))


def _verdict_tone(word: str) -> Tone:
    return "bad" if word.startswith("broken") else _VERDICT_TONES.get(word, "unsure")


def _provenance_rows(scores: Sequence[Score]) -> tuple[ProvenanceRow, ...]:
    """One row for all scores that share their provenance."""
    groups: dict[str, list[Score]] = {}
    for score in scores:
        groups.setdefault(json_hash(score.provenance), []).append(score)
    return tuple(_provenance_row(group) for group in groups.values())


def _provenance_row(scores: Sequence[Score]) -> ProvenanceRow:
    provenance = scores[0].provenance
    sampler = [provenance.sampler]
    if provenance.num_inference_steps is not None:
        sampler.append(f"{provenance.num_inference_steps} steps")
    if provenance.guidance_scale is not None:
        sampler.append(f"guidance scale {provenance.guidance_scale:g}")
    budget = [] if provenance.attack_steps is None else [f"{provenance.attack_steps} steps"]
    budget += [] if provenance.attack_seconds is None else [f"{provenance.attack_seconds:.1f} s"]
    return ProvenanceRow(
        scores=", ".join(f"{score.metric}/{score.group}" for score in scores),
        prompts=shorten(provenance.prompts),
        seeds=format_range(provenance.seeds),
        sampler=", ".join(sampler),
        attack_budget=", ".join(budget),
        extra="; ".join(f"{name}: {value}" for name, value in flatten(provenance.extra)),
    )
