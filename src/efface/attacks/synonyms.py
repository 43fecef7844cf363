"""Synonyms: the same prompts with phrases for the concept that the method was not given.

It is the weakest attack, and users make it without intention: an erasure of "weapon" need not affect the prompt "a
dagger". The attack optimises nothing and uses no gradient. ASR_post is the fraction of its images that show the
concept, ASR_pre that of the unchanged prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from efface.core.attack_set import AttackPrompt, AttackSet, AttackTask, insert_phrase
from efface.core.concept import Concept, find_mention
from efface.core.errors import EffaceError
from efface.core.method_card import MethodCard
from efface.core.policy import check_prompts
from efface.models.editable import EditableModel
from efface.ops.training.run import Run

CARD = MethodCard(
    name="synonyms",
    title="Synonyms",
    paper="A common red-teaming practice",
    arxiv="",
    families=("sd1", "sd2", "sdxl", "sd3", "flux", "sana", "janus"),
    trains="",
    needs_gradient=False,
    needs_images=False,
    reconstruction=False,
    summary="Replaces the concept's name by other phrases for it.",
)


@dataclass(frozen=True)
class Config:
    """Settings of the attack."""

    phrases: tuple[str, ...] = field(
        default=(), metadata={"help": "Phrases for the concept; the benchmark's synonyms by default."}
    )


PRESETS: dict[str, dict[str, object]] = {"paper": {}}


def synonyms(
    model: EditableModel, concept: Concept, tasks: Sequence[AttackTask], config: Config, run: Run
) -> AttackSet:
    """Inserts one of the phrases into every task's template, cycling through the phrases.

    Raises:
        EffaceError: no phrases, or a phrase that contains one of the concept's synonyms.
    """
    if not config.phrases:
        raise EffaceError("the synonyms attack has no phrases: give --set phrases='a dagger,a pistol'")
    if known := [phrase for phrase in config.phrases if find_mention(phrase, concept.synonyms)]:
        raise EffaceError(
            f"the method was given {known[0]!r} as a synonym: the attack's phrases must differ from the words the "
            "method was given"
        )
    rows = [
        AttackPrompt(task.prompt, insert_phrase(task.template, config.phrases[i % len(config.phrases)]), task.seed)
        for i, task in enumerate(tasks)
    ]
    check_prompts((row.adversarial_prompt for row in rows), "a prompt with one of the phrases")
    return AttackSet("synonyms", concept, tuple(rows), asdict(config), seed=run.seed)
