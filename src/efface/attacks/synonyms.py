"""Synonyms: the same prompts with other words for the concept, none of which a method was given.

The weakest attack, and the one that everybody makes without knowing: whoever asks for a dagger is not stopped by an erased "weapon".
Nothing is optimised and no gradient is used; ASR_post is the share of its images that show the concept, ASR_pre that of the prompts as
they stood.
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
    paper="The red-teaming practice of every erasure paper; no paper of its own",
    arxiv="",
    families=("sd1", "sd2", "sdxl"),
    trains="",
    needs_gradient=False,
    needs_images=False,
    vram={},
    minutes={},
    reconstruction=False,
    summary="Asks for the concept in other words.",
)


@dataclass(frozen=True)
class Config:
    """What to try."""

    phrases: tuple[str, ...] = field(
        default=(), metadata={"help": "other words for the concept; by default the benchmark's"}
    )


PRESETS: dict[str, dict[str, object]] = {"paper": {}}


def synonyms(
    model: EditableModel, concept: Concept, tasks: Sequence[AttackTask], config: Config, run: Run
) -> AttackSet:
    """Every task with one of the phrases, in turn.

    Raises:
        EffaceError: no phrases, or one that the method was given.
    """
    if not config.phrases:
        raise EffaceError("the synonyms attack has no words to try: give --set phrases='a dagger,a pistol'")
    if given := [
        phrase for phrase in config.phrases if phrase in concept.synonyms or find_mention(phrase, concept.synonyms)
    ]:
        raise EffaceError(f"{given[0]!r} was given to the method as a synonym: an attack's words must be others")
    rows = [
        AttackPrompt(t.prompt, insert_phrase(t.template, config.phrases[i % len(config.phrases)]), t.seed)
        for i, t in enumerate(tasks)
    ]
    check_prompts((row.adversarial_prompt for row in rows), "a prompt with one of the phrases")
    return AttackSet("synonyms", concept, tuple(rows), asdict(config), seed=run.seed)
