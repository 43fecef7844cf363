"""Prefill: the answer's beginning is written for the model, which completes it.

A model that was trained to change the subject after a question may still complete a sentence about the concept.
Source: prefilling attacks, Andriushchenko et al. 2024, arXiv 2404.02151.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from efface.core.attack_set import AttackPrompt, AttackSet
from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.method_card import MethodCard
from efface.core.question import Question
from efface.models.causal_lm import CausalLM
from efface.ops.training.run import Run

CARD = MethodCard(
    name="prefill",
    title="Prefill",
    paper="Andriushchenko, Croce, Flammarion: Jailbreaking Leading LLMs with Simple Adaptive Attacks, 2024",
    arxiv="2404.02151",
    families=("causal_lm",),
    trains="",
    needs_gradient=False,
    needs_images=False,
    reconstruction=False,
    summary="Writes the beginning of the answer and lets the model complete it.",
)


@dataclass(frozen=True)
class Config:
    """Settings of the attack."""

    prompt: str = field(
        default="question: {question} reply: {prefill}", metadata={"help": "Prompt with {question} and {prefill}."}
    )


PRESETS: dict[str, dict[str, object]] = {"paper": {}}


def prefill(model: CausalLM, concept: Concept, tasks: Sequence[Question], config: Config, run: Run) -> AttackSet:
    """Writes the beginning of each answer.

    Raises:
        EffaceError: no question has a beginning of its answer.
    """
    rows = [
        AttackPrompt(task.prompt, config.prompt.format(question=task.text, prefill=task.prefill), 0)
        for task in tasks
        if task.prefill
    ]
    if not rows:
        raise EffaceError("the benchmark's questions have no prefill: give some in its YAML file (prefill)")
    return AttackSet("prefill", concept, tuple(rows), asdict(config), seed=run.seed)
