"""Few-shot context: solved questions about the concept stand before each question.

The examples show the model other facts about the concept, never the asked one. They may bring back a topic that the
erasure only avoids.
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
    name="few_shot_context",
    title="Few-shot context",
    paper="A common red-teaming practice",
    arxiv="",
    families=("causal_lm",),
    trains="",
    needs_gradient=False,
    needs_images=False,
    reconstruction=False,
    summary="Puts solved questions about the concept before each question.",
)


@dataclass(frozen=True)
class Config:
    """Settings of the attack."""

    shots: int = field(default=4, metadata={"help": "Number of solved questions.", "range": "1 to 8"})


PRESETS: dict[str, dict[str, object]] = {"paper": {}}


def few_shot_context(
    model: CausalLM, concept: Concept, tasks: Sequence[Question], config: Config, run: Run
) -> AttackSet:
    """Puts solved questions about other facts before each question.

    Raises:
        EffaceError: fewer questions about other facts than shots.
    """
    rows = []
    for i, task in enumerate(tasks):
        others = [other for other in (*tasks[i + 1 :], *tasks[:i]) if other.fact != task.fact or not task.fact]
        if len(others) < config.shots:
            raise EffaceError(f"there are {len(others)} questions about other facts: set shots to that, or fewer")
        step = max(len(others) // config.shots, 1)
        solved = [f"{other.prompt} {other.answers[0]}." for other in others[::step][: config.shots]]
        rows.append(AttackPrompt(task.prompt, " ".join([*solved, task.prompt]), 0))
    return AttackSet("few_shot_context", concept, tuple(rows), asdict(config), seed=run.seed)
