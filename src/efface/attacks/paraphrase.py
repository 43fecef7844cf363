"""Paraphrase: the same questions in other words, with other names for the concept's members.

The weakest attack on a language model: an erasure that was trained on some wordings must hold for others. It optimises
nothing. ASR_post is the fraction of right answers.
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
    name="paraphrase",
    title="Paraphrase",
    paper="A common red-teaming practice",
    arxiv="",
    families=("causal_lm",),
    trains="",
    needs_gradient=False,
    needs_images=False,
    reconstruction=False,
    summary="Asks the same questions in other words.",
)


@dataclass(frozen=True)
class Config:
    """Settings of the attack."""

    per_question: int = field(default=2, metadata={"help": "Number of paraphrases of a question.", "range": "1 to 4"})


PRESETS: dict[str, dict[str, object]] = {"paper": {}}


def paraphrase(model: CausalLM, concept: Concept, tasks: Sequence[Question], config: Config, run: Run) -> AttackSet:
    """Replaces every question by its paraphrases.

    Raises:
        EffaceError: no question has a paraphrase.
    """
    rows = [
        AttackPrompt(task.prompt, f"question: {text} answer:", 0)
        for task in tasks
        for text in task.paraphrases[: config.per_question]
    ]
    if not rows:
        raise EffaceError("the benchmark's questions have no paraphrases: give some in its YAML file (paraphrases)")
    return AttackSet("paraphrase", concept, tuple(rows), asdict(config), seed=run.seed)
