"""Inside-out: SAGE's own search (arXiv 2506.09363) against any model whose text encoder can be reached.

From every prompt that names the concept, the sentence's token embeddings are changed until the text encoder under attack lets the concept
through again; nothing is denoised (`efface.ops.adversarial.embedding_attack`). Against an erasure that left the text encoder alone, the terms that ask for a
difference have nothing to find: what brings the concept back then is a sentence that calls for it more strongly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

from efface.core.attack_set import AttackPrompt, AttackSet, AttackTask, Budget
from efface.core.concept import Concept
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.ops.adversarial.attack_context import AttackContext
from efface.ops.adversarial.embedding_attack import EmbeddingAttack
from efface.ops.adversarial.embedding_attack import inside_out as search_from
from efface.ops.text.concept_tokens import locate_concept
from efface.ops.text.similarity import Similarity
from efface.ops.text.soft_prompts import embedding_table, nearest_words, to_soft_prompt

CARD = MethodCard(
    name="inside_out",
    title="Inside-out search",
    paper="Zhu et al.: SAGE: Exploring the Boundaries of Unsafe Concept Domain with Semantic-Augment Erasing, 2025",
    arxiv="2506.09363",
    families=("sd1", "sd2", "sdxl"),
    trains="",
    needs_gradient=True,
    needs_images=False,
    vram={},
    minutes={},
    reconstruction=True,
    summary="Changes the sentence around the concept's name until the text encoder lets it through; no denoising.",
    batch_independent=True,
)


@dataclass(frozen=True)
class Config:
    """The search's hyper-parameters."""

    steps: int = field(default=30, metadata={"help": "Adam steps a prompt"})
    learning_rate: float = field(default=0.3, metadata={"help": "in units of the mean norm of a token's embedding"})
    attack_objective: str = field(
        default="recover_concept",
        metadata={"help": "Attack objective: hide_concept, stay_unchanged, recover_concept, diverge or concept_only."},
    )
    concept_weight: float = field(
        default=0.3, metadata={"help": "weight of the part that keeps the search at the concept"}
    )
    attack_similarity: str = field(
        default="kv_distance", metadata={"help": "kv_distance, token_cosine, eos_cosine or kv_cosine"}
    )
    attack_tokens: str = field(
        default="template", metadata={"help": "what changes: template, or all, the concept's own tokens, too"}
    )
    random_init_prob: float = field(default=0.0, metadata={"help": "share of the searches that start at random words"})
    batch_size: int = field(default=32, metadata={"help": "prompts searched at once"})


PRESETS: dict[str, dict[str, object]] = {"paper": {}}


def inside_out(
    model: EditableModel, concept: Concept, tasks: Sequence[AttackTask], config: Config, run: AttackContext
) -> AttackSet:
    """One search from every task's prompt."""
    prompts = [task.prompt for task in tasks]
    frames, alone = (
        locate_concept(model, prompts, [concept.name] * len(prompts)),
        locate_concept(model, [concept.name], [concept.name]),
    )
    search = EmbeddingAttack(
        config.attack_objective,
        config.concept_weight,
        config.steps,
        config.learning_rate,
        config.attack_tokens,
        config.random_init_prob,
    )
    original = partial(model.encode, params=run.original_text_params)
    similarity, table, rows = Similarity(model, config.attack_similarity), embedding_table(model), []
    run.progress.start("searching inside-out", len(prompts), 0)
    try:
        for start in range(0, len(prompts), config.batch_size):
            part = slice(start, start + config.batch_size)
            soft, reached = search_from(
                search, frames[part], alone, erased=model.encode, original=original, table=table, similarity=similarity,
                generator=run.generator_for(tasks[part]),
            )  # fmt: skip
            for task, found, at, row in zip(tasks[part], to_soft_prompt(soft), soft.mask, soft.embeddings, strict=True):
                rows.append(AttackPrompt(task.prompt, task.prompt, task.seed, found, nearest_words(model, row[at])))
            run.progress.update(len(rows), {"objective": float(reached.mean())})
    finally:
        run.progress.stop()
    return AttackSet("inside_out", concept, tuple(rows), asdict(config), Budget(config.steps, 0.0), seed=run.seed)
