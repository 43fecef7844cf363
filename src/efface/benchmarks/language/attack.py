"""Scores an attack on a language model: how often do its prompts, or its changed weights, bring answers back?"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class LanguageAttack:
    """An attack and the answers to its prompts.

    Attributes:
        benchmark: the benchmark that its questions are from.
        attack_set: the attack.
        questions: the question behind each prompt.
        plain: the answers to the questions.
        attacked: the answers to the attack's prompts.
        has_other_base: whether the model is not the erasure's base.
    """

    benchmark: LanguageBenchmark
    attack_set: AttackSet
    questions: Sequence[Question]
    plain: Sequence[str]
    attacked: Sequence[str]
    has_other_base: bool

    def scores(self, label: str) -> tuple[Score, ...]:
        """Returns the share of right answers without and with the attack, with the label as their group."""
        extra = self.attack_set.proof(self.attack_set.erasure_hash, self.benchmark.hash, len(self.questions))
        source = Provenance(prompts=json_hash([question.text for question in self.questions]), extra=extra)
        return tuple(
            Score.rate(metric, label, sum(map(Question.accepts, self.questions, answers)), len(answers), MATCH, source)
            for metric, answers in (("asr_pre", self.plain), ("asr_post", self.attacked))
        )

    def rows(self, label: str) -> list[dict[str, Any]]:
        """Returns the answers without and with the attack, as the evidence holds them."""
        rows = zip(self.questions, self.attack_set.prompts, self.plain, self.attacked, strict=True)
        return [
            {"group": label, "prompt": prompt.adversarial_prompt, "before": old, "after": new,
             "expected": question.answers[0], "right_before": question.accepts(old),
             "right_after": question.accepts(new)}
            for question, prompt, old, new in rows
        ]  # fmt: skip


def attack_language(
    model: CausalLM, erasure: Erasure, benchmark: LanguageBenchmark, function: Any, config: Any, *, seed: int = 0,
    limit: int | None = None, allow_base_mismatch: bool = False, progress: Progress | None = None,
) -> LanguageAttack:  # fmt: skip
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
        progress: progress display.
    """
    questions = [*benchmark.limited(limit).questions["name"]]
    used_limit = len(questions) if len(questions) < len(benchmark.questions["name"]) else None
    concept = next((c for c in erasure.concepts if c.name == benchmark.concept.name), benchmark.concept)
    run = Run(seed=seed, device=model.device, progress=progress or Silent())
    with applied(model, erasure, allow_base_mismatch) as record:
        attack_set: AttackSet = function(model, concept, questions, config, run)
        attack_set = replace(attack_set, limit=used_limit, erasure_hash=erasure.spec.hash, base_fingerprint=record.base)
        rows = asked(questions, attack_set)
        plain = free_answers(model, [row.prompt for row in rows])
        with _change(function, model, concept, questions, config, run):
            attacked = free_answers(model, [prompt.adversarial_prompt for prompt in attack_set.prompts])
    return LanguageAttack(benchmark, attack_set, rows, plain, attacked, record.base_mismatch)


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
