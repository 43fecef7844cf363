"""Scores an attack on a language model: how often do its prompts, or its changed weights, bring answers back?"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from efface.core.attack_set import AttackSet
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.question import Question
from efface.core.result import Score
from efface.core.score import Provenance
from efface.core.serialization import json_hash
from efface.models.causal_lm import CausalLM
from efface.ops.editing.apply import applied
from efface.ops.training.progress import Progress, Silent
from efface.ops.training.run import Run

from .answers import free_answers
from .benchmark import LanguageBenchmark
from .evaluation import MATCH

CHANGE = "changed_model"
"""Name of an attack module's context manager that changes the model's weights while answers are generated."""


def attack_language(
    model: CausalLM, erasure: Erasure, benchmark: LanguageBenchmark, function: Any, config: Any, *, seed: int = 0,
    limit: int | None = None, allow_base_mismatch: bool = False, label: str = "", progress: Progress | None = None,
) -> tuple[AttackSet, tuple[Score, ...], list[dict[str, Any]]]:  # fmt: skip
    """Runs an attack on the erased model and asks its prompts.

    Args:
        model: the base model.
        erasure: the erasure.
        benchmark: source of the questions, those of the group ``name``.
        function: a registered attack for language models.
        config: its configuration.
        seed: root seed.
        limit: maximum number of questions.
        allow_base_mismatch: accept a base model other than the erasure's own.
        label: the attack's label, the group of its scores.
        progress: progress display.

    Returns:
        The attack set, ASR before and after the attack, and the texts.
    """
    questions = [*benchmark.limited(limit).questions["name"]]
    concept = next((c for c in erasure.concepts if c.name == benchmark.concept.name), benchmark.concept)
    run = Run(seed=seed, device=model.device, progress=progress or Silent())
    with applied(model, erasure, allow_base_mismatch) as record:
        attack_set: AttackSet = function(model, concept, questions, config, run)
        attack_set = replace(attack_set, erasure_hash=erasure.spec.hash, base_fingerprint=record.base)
        rows = asked(questions, attack_set)
        plain = free_answers(model, [row.prompt for row in rows])
        with _change(function, model, concept, questions, config, run):
            attacked = free_answers(model, [prompt.adversarial_prompt for prompt in attack_set.prompts])
    prompts = [prompt.adversarial_prompt for prompt in attack_set.prompts]
    texts = [_row(label, *item) for item in zip(rows, prompts, plain, attacked, strict=True)]
    return attack_set, _success_rates(label, benchmark, rows, texts, limit), texts


def _success_rates(
    label: str,
    benchmark: LanguageBenchmark,
    rows: Sequence[Question],
    texts: Sequence[dict[str, Any]],
    limit: int | None,
) -> tuple[Score, ...]:
    """Returns the share of right answers without and with the attack."""
    extra = {"limit": limit} if limit is not None and limit < len(benchmark.questions["name"]) else {}
    source = Provenance(prompts=json_hash([row.text for row in rows]), extra=extra)
    return tuple(
        Score.rate(metric, label, sum(bool(text[key]) for text in texts), len(texts), MATCH, source)
        for metric, key in (("asr_pre", "right_before"), ("asr_post", "right_after"))
    )


def _row(label: str, question: Question, prompt: str, old: str, new: str) -> dict[str, Any]:
    """Returns the answers to one prompt without and with the attack, as the evidence holds them."""
    return {"group": label, "prompt": prompt, "before": old, "after": new, "expected": question.answers[0],
            "right_before": question.accepts(old), "right_after": question.accepts(new)}  # fmt: skip


def asked(questions: Sequence[Question], attack_set: AttackSet) -> list[Question]:
    """Returns the question of every attacked prompt, by the prompt that the attack started from.

    Raises:
        EffaceError: a prompt that starts from no question.
    """
    known = {question.prompt: question for question in questions}
    missing = [row.source_prompt for row in attack_set.prompts if row.source_prompt not in known]
    if missing:
        raise EffaceError(f"the attack's prompt {missing[0]!r} starts from no question of the benchmark")
    return [known[row.source_prompt] for row in attack_set.prompts]


@contextmanager
def _change(function: Any, model: CausalLM, *arguments: Any) -> Iterator[None]:
    """Changes the weights as the attack's module says, for the body of a ``with``."""
    change = getattr(sys.modules[function.__module__], CHANGE, None)
    context: AbstractContextManager[Any] = nullcontext() if change is None else change(model, *arguments)
    with context:
        yield
