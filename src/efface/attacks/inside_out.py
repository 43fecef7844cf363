"""Inside-out search: SAGE's embedding attack (arXiv 2506.09363) against any model with an accessible text encoder.

The attack starts from a prompt that names the concept. It optimises the token embeddings of the context until the
attacked text encoder encodes the concept again (`efface.ops.adversarial.embedding_attack`), without running the
denoiser. If the erasure did not change the text encoder, the terms stay_unchanged and diverge are constant: the attack
can then only find a context that requests the concept more strongly. On SD3 and FLUX, it searches T5's embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from efface.core.attack_set import AttackPrompt, AttackSet, AttackTask, Budget
from efface.core.concept import Concept
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.ops.adversarial.attack_context import AttackContext
from efface.ops.adversarial.attack_objective import AttackTarget
from efface.ops.adversarial.embedding_attack import EmbeddingAttack
from efface.ops.adversarial.embedding_attack import inside_out as attack_embeddings
from efface.ops.text.concept_tokens import locate_concept
from efface.ops.text.similarity import Similarity
from efface.ops.text.soft_prompts import embedding_table, nearest_words, to_soft_prompts

CARD = MethodCard(
    name="inside_out",
    title="Inside-out search",
    paper="Zhu et al.: SAGE: Exploring the Boundaries of Unsafe Concept Domain with Semantic-Augment Erasing, 2025",
    arxiv="2506.09363",
    families=("sd1", "sd2", "sdxl", "sd3", "flux"),
    trains="",
    needs_gradient=True,
    needs_images=False,
    reconstruction=True,
    summary="Optimises the embeddings around the concept's name until the text encoder encodes the concept again.",
    batch_independent=True,
)


@dataclass(frozen=True)
class Config:
    """Settings of the search."""

    steps: int = field(default=30, metadata={"help": "Number of Adam steps per prompt."})
    learning_rate: float = field(
        default=0.3, metadata={"help": "Adam's learning rate, in units of the mean norm of a token embedding."}
    )
    attack_objective: str = field(
        default="recover_concept",
        metadata={"help": "Attack objective: hide_concept, stay_unchanged, recover_concept, diverge or concept_only."},
    )
    concept_weight: float = field(
        default=0.3, metadata={"help": "Weight of the prompt's similarity to the concept under the original encoder."}
    )
    attack_similarity: str = field(
        default="kv_distance",
        metadata={"help": "Similarity of text encoder states: kv_distance, token_cosine, eos_cosine or kv_cosine."},
    )
    attack_tokens: str = field(
        default="template",
        metadata={"help": "Tokens to optimise: template (those around the concept) or all (the concept's too)."},
    )
    random_init_prob: float = field(
        default=0.0, metadata={"help": "Probability that a search starts from random words.", "range": "0 to 1"}
    )
    batch_size: int = field(default=32, metadata={"help": "Number of prompts searched at the same time."})


PRESETS: dict[str, dict[str, object]] = {"paper": {}}


def inside_out(
    model: EditableModel, concept: Concept, tasks: Sequence[AttackTask], config: Config, run: AttackContext
) -> AttackSet:
    """Runs one search from every task's prompt."""
    prompts = [task.prompt for task in tasks]
    prompt_tokens = locate_concept(model, prompts, [concept.name] * len(prompts))
    concept_only = locate_concept(model, [concept.name], [concept.name])
    attack = EmbeddingAttack(
        objective=config.attack_objective,
        concept_weight=config.concept_weight,
        steps=config.steps,
        learning_rate=config.learning_rate,
        attack_tokens=config.attack_tokens,
        random_init_prob=config.random_init_prob,
    )
    target = AttackTarget(
        model.encode, run.original_encoder(model), Similarity(model, config.attack_similarity), embedding_table(model)
    )
    rows = list[AttackPrompt]()
    run.progress.start("searching inside-out", len(prompts), 0)
    try:
        for start in range(0, len(prompts), config.batch_size):
            batch = slice(start, start + config.batch_size)
            generator = run.generator_for(tasks[batch])
            soft, objective = attack_embeddings(attack, target, prompt_tokens[batch], concept_only, generator=generator)
            words = [nearest_words(model, row[mask]) for row, mask in zip(soft.embeddings, soft.mask, strict=True)]
            for task, soft_prompt, nearest in zip(tasks[batch], to_soft_prompts(soft), words, strict=True):
                rows.append(AttackPrompt(task.prompt, task.prompt, task.seed, soft_prompt, nearest))
            run.progress.update(len(rows), {"objective": float(objective.mean())})
    finally:
        run.progress.stop()
    return AttackSet("inside_out", concept, tuple(rows), asdict(config), Budget(config.steps, 0.0), seed=run.seed)
