"""Relearning: the erased model is trained for a few steps on half of the concept's facts, and asked the other half.

A model that has forgotten cannot answer about facts that it was not told again; one that only hides them can. The
attacker knows facts of the concept and can train. Source: Łucki et al. 2024, arXiv 2409.18025; evaluated on held-out
facts as in PISCES (Gur-Arieh et al. 2025).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import torch

from efface.core.attack_set import AttackPrompt, AttackSet
from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.method_card import MethodCard
from efface.core.question import Question, facts_of
from efface.models.causal_lm import CausalLM
from efface.ops.editing.written_weights import written_weights
from efface.ops.language.losses import next_token_loss
from efface.ops.language.text_batches import TextBatches
from efface.ops.training.run import Run
from efface.ops.training.student import Student

CARD = MethodCard(
    name="relearning",
    title="Relearning",
    paper="Łucki et al.: An Adversarial Perspective on Machine Unlearning for AI Safety, 2024",
    arxiv="2409.18025",
    families=("causal_lm",),
    trains="",
    needs_gradient=True,
    needs_images=False,
    reconstruction=False,
    summary="Trains the erased model on half of the facts and asks the other half.",
)


@dataclass(frozen=True)
class Config:
    """Settings of the attack."""

    steps: int = field(default=20, metadata={"help": "Number of training steps.", "range": "5 to 500"})
    learning_rate: float = field(default=5e-4, metadata={"help": "Learning rate of the optimiser."})
    batch_size: int = field(default=8, metadata={"help": "Number of training samples per step."})


PRESETS: dict[str, dict[str, object]] = {"paper": {}}


def relearning(model: CausalLM, concept: Concept, tasks: Sequence[Question], config: Config, run: Run) -> AttackSet:
    """Returns the questions about the facts that are not told again."""
    rows = [AttackPrompt(task.prompt, task.prompt, 0) for task in _halves(tasks)[1]]
    return AttackSet("relearning", concept, tuple(rows), asdict(config), seed=run.seed)


@contextmanager
def changed_model(
    model: CausalLM, concept: Concept, tasks: Sequence[Question], config: Config, run: Run
) -> Iterator[None]:
    """Trains all decoder layers on solved questions of the first half; the weights come back afterwards."""
    texts = [f"{task.prompt} {task.answers[0]}." for task in _halves(tasks)[0]]
    batches, student = TextBatches(model, texts), Student(model, "layers")  # type: ignore[arg-type]
    optimiser = torch.optim.AdamW(student.parameters(), lr=config.learning_rate)
    for step in run.steps(config.steps, student.trainable_params, optimiser, phase="relearning"):
        tokens = batches.sample(config.batch_size, run.generator("relearning"))
        step.optimize(next_token_loss(model.logits(tokens, params=student.params()), tokens))
    with written_weights(model, student.params()):
        yield


def _halves(tasks: Sequence[Question]) -> tuple[list[Question], list[Question]]:
    """Returns the questions of every second fact, and the others.

    Raises:
        EffaceError: the questions ask for one fact alone.
    """
    facts = list(dict.fromkeys(facts_of(tasks)))
    if len(facts) < 2:
        raise EffaceError("relearning needs questions about two facts or more: half of them are told again")
    told = set(facts[::2])
    keys = facts_of(tasks)
    first = [task for task, key in zip(tasks, keys, strict=True) if key in told]
    return first, [task for task, key in zip(tasks, keys, strict=True) if key not in told]
