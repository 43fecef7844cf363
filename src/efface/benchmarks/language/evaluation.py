"""Evaluates an erasure on a language benchmark: efficacy, specificity, coherence, and texts before and after."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import harmonic_mean
from typing import Any

import numpy as np

from efface.core.erasure import Erasure
from efface.core.question import Question, facts_of
from efface.core.result import DetectorId, Provenance, Result, Score
from efface.core.seeds import derive_seed
from efface.core.serialization import json_hash
from efface.core.subsample import evenly_spaced
from efface.models.causal_lm import CausalLM
from efface.ops.editing.apply import applied
from efface.ops.training.progress import Progress, Silent

from .answers import Answers, answer, text_losses
from .benchmark import LanguageBenchmark

MATCH = DetectorId("exact-match", "1")
LIKELIHOOD = DetectorId("log-likelihood", "1")
CONCEPT_GROUPS = ("name", "domain")
SHOWN = 12
"""Number of texts of a group that the evidence keeps."""


@dataclass(frozen=True)
class LanguageEvaluation:
    """A result and texts of it, each with group, prompt, before, after, expected, right_before and right_after."""

    result: Result
    texts: list[dict[str, Any]]


@dataclass(frozen=True)
class Measured:
    """All answers of one model, by group, and the losses of the texts."""

    answers: Mapping[str, Answers]
    losses: Sequence[float]

    @classmethod
    def of(cls, model: CausalLM, benchmark: LanguageBenchmark, progress: Progress, label: str) -> Measured:
        """Asks every question of a benchmark."""
        progress.start(label, len(benchmark.questions) + 1, 0)
        try:
            answers = {}
            for number, (group, questions) in enumerate(benchmark.questions.items(), 1):
                answers[group] = answer(model, questions)
                progress.update(number, {})
            return cls(answers, text_losses(model, benchmark.texts))
        finally:
            progress.stop()


def evaluate_language(
    model: CausalLM, erasure: Erasure, benchmark: LanguageBenchmark, *, allow_base_mismatch: bool = False,
    metadata: Mapping[str, Any] | None = None, progress: Progress | None = None,
) -> LanguageEvaluation:  # fmt: skip
    """Asks all questions before and after an erasure and computes the scores.

    Args:
        model: the base model.
        erasure: the erasure.
        benchmark: the benchmark.
        allow_base_mismatch: accept a base model other than the erasure's own.
        metadata: further entries of the result's metadata.
        progress: progress display.
    """
    shown = progress or Silent()
    before = Measured.of(model, benchmark, shown, "answers before")
    with applied(model, erasure, allow_base_mismatch) as record:
        after = Measured.of(model, benchmark, shown, "answers after")
    scores = language_scores(benchmark, before, after)
    about = {"benchmark": benchmark.describe(), "seed": 0} | ({"base_mismatch": True} if record.base_mismatch else {})
    result = Result(scores, {**about, **(metadata or {})})
    return LanguageEvaluation(result, shown_texts(benchmark, before, after))


def language_scores(benchmark: LanguageBenchmark, before: Measured, after: Measured) -> tuple[Score, ...]:
    """Returns RER of the concept's groups, retention of the others, choice accuracy, perplexity, fluency, means."""
    scores: list[Score] = []
    for group, questions in benchmark.questions.items():
        old, new = before.answers[group], after.answers[group]
        kind = Score.relative_erasure_rate if group in CONCEPT_GROUPS else Score.retention_ratio
        metric = "rer" if group in CONCEPT_GROUPS else "retention"
        rng = _rng(group)
        scores.append(
            kind(metric, group, np.array(old.right, float), np.array(new.right, float), facts_of(questions), rng, MATCH,
                 _provenance(questions))
        )  # fmt: skip
        scores += _accuracies(group, questions, old, new)
    old_losses, new_losses = np.array(before.losses), np.array(after.losses)
    kept = np.minimum(1.0, np.exp(old_losses - new_losses))
    clusters = list(benchmark.texts)
    source = Provenance(prompts=json_hash(clusters))
    scores.append(Score.mean("retention", "context", kept, clusters, _rng("context"), LIKELIHOOD, source))
    ratio = math.exp(float((new_losses - old_losses).mean()))
    scores.append(Score("perplexity_ratio", "texts", ratio, None, None, len(kept), LIKELIHOOD, source))
    scores.append(
        Score("perplexity", "texts", math.exp(float(new_losses.mean())), None, None, len(kept), LIKELIHOOD, source)
    )
    return (*scores, *harmonic_means(scores))


def _accuracies(group: str, questions: Sequence[Question], old: Answers, new: Answers) -> list[Score]:
    """Returns free and choice accuracy before and after, and the fluency of the answers."""
    source, rows = _provenance(questions), []
    for suffix, answers in (("_before", old), ("", new)):
        rows.append(Score.rate(f"free_accuracy{suffix}", group, sum(answers.right), len(answers.right), MATCH, source))
        chosen = answers.chosen_right
        rows.append(Score.rate(f"choice_accuracy{suffix}", group, sum(chosen), len(chosen), LIKELIHOOD, source))
    return [*rows, Score.rate("fluency", group, sum(new.fluent), len(new.fluent), None, source)]


def harmonic_means(scores: Sequence[Score]) -> list[Score]:
    """Returns PISCES' harmonic means (Gur-Arieh et al. 2025, section 4): specificity, coherence and all three.

    Efficacy is 1 - acc / acc_0 of the several-choice questions about the concept, specificity the harmonic mean of the
    accuracy ratios of near and general questions, coherence that of the inverse perplexity ratio and of the fluency of
    the answers about the concept. The paper lets a language model judge fluency; here `is_fluent` does.
    """
    table = {(s.metric, s.group): s for s in scores}

    def ratio(group: str) -> float:
        old, new = (table.get((f"choice_accuracy{suffix}", group)) for suffix in ("_before", ""))
        if old is None or new is None or not old.value or new.value is None:
            return 1.0
        return min(new.value / old.value, 1.0)

    fluency, perplexity = table[("fluency", "name")].value or 0.0, table[("perplexity_ratio", "texts")].value or 1.0
    efficacy = 1 - ratio("name")
    specificity = harmonic_mean([ratio("general" if ("fluency", "general") in table else "other"), ratio("near")])
    coherence = harmonic_mean([min(1 / perplexity, 1.0), fluency])
    n = table[("fluency", "name")].n
    values = {"efficacy": efficacy, "specificity": specificity, "coherence": coherence,
              "harmonic_mean": harmonic_mean([efficacy, specificity, coherence])}  # fmt: skip
    return [Score(metric, "all", value, None, None, n) for metric, value in values.items()]


def shown_texts(
    benchmark: LanguageBenchmark, before: Measured, after: Measured, limit: int = SHOWN
) -> list[dict[str, Any]]:
    """Returns up to ``limit`` answers of every group, evenly spaced, before and after."""
    rows = []
    for group, questions in benchmark.questions.items():
        old, new = before.answers[group], after.answers[group]
        for i in evenly_spaced(range(len(questions)), limit):
            rows.append(
                {"group": group, "prompt": questions[i].text, "before": old.texts[i], "after": new.texts[i],
                 "expected": questions[i].answers[0], "right_before": old.right[i], "right_after": new.right[i]}
            )  # fmt: skip
    return rows


def _provenance(questions: Sequence[Question]) -> Provenance:
    return Provenance(prompts=json_hash([question.text for question in questions]), extra={"decoding": "greedy"})


def _rng(label: str) -> np.random.Generator:
    return np.random.default_rng(derive_seed(0, "language bootstrap", label) % 2**32)
