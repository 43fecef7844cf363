"""SAGE: semantic-augment erasing (Zhu et al., arXiv 2506.09363); a reconstruction, since no code is public.

Only the text encoder E is trained; the denoiser e is frozen, so the edited encoder fits every model that shares it. E*
is the original encoder, c the concept, p a prompt with it, r a retain prompt or the empty one, s a similarity:

    for each step:
        p   <- prompts from the template library                                          warm-up and clean prompts
        p   <- argmax over its embeddings of  concept_weight s(E*(p), E*(c)) + objective  self-check, J steps
        L_e <- || e(z_t, t, E(p)) - target(p, c) ||^2  (`ConceptPrompts.target`)          self-erasure
        L_g <- mean_ij ( cos(E(r_i), E*(r_j)) - cos(E*(r_i), E*(r_j)) )^2                 global retention
        L_l <- || e(z'_t, t, E(r)) - e(z'_t, t, E*(r)) ||^2  over the Top-K drifting r    local retention
        L_s <- | E(p) - E*(p without c) |^2 / | E*(p) - E*(p without c) |^2               ours: state loss
        L_m <- || e(z_t, t, E(p_v)) - e(z_t, t, E*(p_v)) ||^2  with a pseudo-word v       ours: pseudo-words
        E   <- Adam( L_e + state_weight L_s + graph_weight L_g + local_weight L_l + L_m )

z_t comes from pooled trajectories of the original. ``num_domain_words`` > 0 also erases prompts with words by which the
denoiser draws a domain (ours). ``docs/methods/sage.md`` says what was open and how it was decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.ops.adversarial.embedding_attack import EmbeddingAttack
from efface.ops.adversarial.warm_start import WarmStartBuffer
from efface.ops.elide.concept_losses import BatchSizes, ConceptLosses
from efface.ops.elide.domain_words import MiningConfig, mine_domain_words
from efface.ops.elide.pseudo_words import PseudoWords
from efface.ops.elide.state_loss import ErasureLoss
from efface.ops.retention.relation_graph import RelationGraphLoss
from efface.ops.retention.retain_set import RetainSet, top_k_drift
from efface.ops.text.concept_prompts import ConceptPrompts
from efface.ops.text.similarity import Similarity
from efface.ops.text.soft_prompts import embedding_table
from efface.ops.text.templates import select_templates
from efface.ops.training.run import Run
from efface.ops.training.schedule import set_learning_rate
from efface.ops.training.student import Student
from efface.ops.training.trajectory_config import TrajectoryConfig

CARD = MethodCard(
    name="sage",
    title="SAGE (semantic-augment erasing)",
    paper="Zhu et al.: SAGE: Exploring the Boundaries of Unsafe Concept Domain with Semantic-Augment Erasing, 2025",
    arxiv="2506.09363",
    families=("sd1", "sd2", "sdxl"),
    trains="the text encoder without its embeddings",
    needs_gradient=True,
    needs_images=False,
    reconstruction=True,
    summary="Attacks the text encoder from the concept outwards and erases what still reaches it, in a cycle.",
)


# fmt: off
@dataclass(frozen=True)
class Config:
    """SAGE's hyper-parameters; the defaults are the paper's where it states them."""

    target_modules: str = field(default="text_all", metadata={"help": "Parameter group to change.", "range": "text_all, text_layers:0-3, text_mlp"})  # noqa: E501
    steps: int = field(default=1000, metadata={"help": "Number of training steps."})
    warmup_steps: int = field(default=200, metadata={"help": "Number of first steps without attack."})
    learning_rate: float = field(default=1e-5, metadata={"help": "Learning rate of the optimiser."})
    schedule: str = field(default="constant", metadata={"help": "Learning-rate schedule: constant or cosine."})
    batch_size: int = field(default=4, metadata={"help": "Number of training samples per step."})
    negative_guidance: float = field(default=1.0, metadata={"help": "Strength eta of the negative guidance."})
    target: str = field(default="neg_prompt", metadata={"help": "Target prediction of a prompt: neg_concept, neg_prompt, neg_keep_context, concept_free."})  # noqa: E501
    attack_steps: int = field(default=30, metadata={"help": "Number of attack steps per training step."})
    attack_learning_rate: float = field(default=0.3, metadata={"help": "Attack step size in token norms."})
    attack_tokens: str = field(default="template", metadata={"help": "Tokens that the attack changes.", "range": "template, all"})  # noqa: E501
    random_init_prob: float = field(default=0.0, metadata={"help": "Probability of a random attack start."})
    restart_prob: float = field(default=1.0, metadata={"help": "Probability of an attack restart."})
    clean_batch_size: int = field(default=4, metadata={"help": "Number of unattacked prompts per step and concept."})
    state_weight: float = field(default=0.0, metadata={"help": "Weight of the state loss; not in the paper."})
    attack_objective: str = field(default="recover_concept", metadata={"help": "Attack objective.", "range": "hide_concept, stay_unchanged, recover_concept, diverge, concept_only"})  # noqa: E501
    concept_weight: float = field(default=1.0, metadata={"help": "Weight of the attack's similarity to the concept."})
    attack_similarity: str = field(default="kv_distance", metadata={"help": "Attack similarity.", "range": "kv_distance, token_cosine, eos_cosine, kv_cosine"})  # noqa: E501
    graph_weight: float = field(default=0.4, metadata={"help": "Weight gamma of the relation graph."})
    graph_weight_style_identity: float = field(default=3.0, metadata={"help": "The same for a style or an identity."})
    graph_reference: str = field(default="cross", metadata={"help": "Relations within E (self) or with E* (cross)."})
    local_weight: float = field(default=1.0, metadata={"help": "Weight of the local retention."})
    top_k: int = field(default=4, metadata={"help": "Number K of drifting retain prompts per step."})
    pseudo_prediction_weight: float = field(default=0.0, metadata={"help": "Weight of the pseudo-word predictions."})
    pseudo_state_weight: float = field(default=0.0, metadata={"help": "Weight of the pseudo-word state loss when the concept is a broad domain."})  # noqa: E501
    pseudo_batch_size: int = field(default=16, metadata={"help": "Number of pseudo-word prompts per step and concept."})
    synonym_min_cosine: float = field(default=1.0, metadata={"help": "Minimum cosine at which a pseudo-word counts as a synonym and is erased too; 1 disables it."})  # noqa: E501
    pseudo_max_cosine: float = field(default=0.5, metadata={"help": "Maximum cosine of a retained pseudo-word."})
    retain_empty_prompt: bool = field(default=True, metadata={"help": "Retain the empty prompt as well."})
    template_file: str = field(default="", metadata={"help": "File of templates, one per line."})
    num_templates: int = field(default=0, metadata={"help": "Number of templates from the library.", "range": "0 (all) to 66"})  # noqa: E501
    num_domain_words: int = field(default=0, metadata={"help": "Largest number of mined domain words; 0 mines none."})
    templates_per_word: int = field(default=6, metadata={"help": "Number of templates per domain word."})
    domain_batch_size: int = field(default=0, metadata={"help": "Number of domain-word prompts per step; 0: clean_batch_size."})  # noqa: E501
    domain_candidates: str = field(default="all", metadata={"help": "Words to mine from: all, or near the name."})
    domain_images: int = field(default=64, metadata={"help": "Number of images that domain words must explain."})
    guidance_scale: float = field(default=3.0, metadata={"help": "Classifier-free guidance scale of the sampler."})
    num_inference_steps: int = field(default=50, metadata={"help": "Number of DDIM steps of the sampler."})
    trajectories_per_prompt: int = field(default=1, metadata={"help": "Number of pooled trajectories per prompt."})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {
        "learning_rate": 4e-4, "schedule": "cosine", "steps": 250, "warmup_steps": 30, "batch_size": 8, "top_k": 8,
        "clean_batch_size": 8, "attack_steps": 10, "restart_prob": 0.25, "concept_weight": 0.3, "state_weight": 0.1,
        "target": "concept_free", "negative_guidance": 0.0, "graph_weight": 5.0, "graph_weight_style_identity": 5.0,
        "local_weight": 30.0, "pseudo_prediction_weight": 8.0, "pseudo_state_weight": 0.1, "pseudo_batch_size": 20,
        "synonym_min_cosine": 0.75, "num_inference_steps": 20, "num_templates": 24, "num_domain_words": 24,
        "domain_candidates": "near", "domain_images": 48, "domain_batch_size": 16,
    },
}
# fmt: on


def sage(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Erases the domains of ``concepts``, with one attack per concept and step."""
    check_config(config, concepts)
    student = Student(model, config.target_modules)
    trajectories = TrajectoryConfig(config.trajectories_per_prompt, config.num_inference_steps, config.guidance_scale)
    losses = [build_losses(student, concept, trajectories, config, run) for concept in concepts]
    seed, with_empty = run.seed_for("retained"), config.retain_empty_prompt
    retained = RetainSet.from_concepts(model, concepts, trajectories, with_empty_prompt=with_empty, seed=seed)
    graph = RelationGraphLoss(retained.original, config.graph_reference)
    graph_weight = max(concept.graph_weight for concept in losses)
    optimiser = torch.optim.Adam(student.parameters(), config.learning_rate)
    attacks = {f"attacks-{i}": concept.attacks for i, concept in enumerate(losses)}
    for step in run.steps(config.steps, student.trainable_params, optimiser, extra_state=attacks):
        set_learning_rate(optimiser, config.learning_rate, config.schedule, step.index, config.steps)
        computed = [concept(step.index) for concept in losses]
        parts = {name: torch.stack([part[name] for part in computed]).mean() for name in computed[0]}
        cond = student.encode(retained.tokens)
        drifted = top_k_drift(cond, retained.original, config.top_k, always_included=retained.empty_prompt_index)
        parts["graph"] = graph(cond)
        parts["local"] = retained.prediction_loss(student, cond, drifted, run.generator("retain"))
        retain = graph_weight * parts["graph"] + config.local_weight * parts["local"] + parts["pseudo"]
        loss = parts["erase"] + config.state_weight * parts["state"] + retain
        step.optimize(loss, {name: part.detach() for name, part in parts.items()})
    return run.erasure(*student.replace_edits())


def build_losses(
    student: Student, concept: Concept, trajectories: TrajectoryConfig, config: Config, run: Run
) -> ConceptLosses:
    """Mines the concept's domain words and prepares its prompts, attacks and pseudo-words."""
    model, pseudo = student.model, PseudoWords(student, config.pseudo_max_cosine)
    count = config.num_domain_words if config.clean_batch_size and concept.kind in ("domain", "abstract") else 0
    mining = MiningConfig(count, num_images=config.domain_images, candidates=config.domain_candidates)
    seed = run.seed_for("words")
    words = [found.word for found in mine_domain_words(model, concept, mining, seed=seed, progress=run.progress)]
    # Where most domain words are nearer to the name than any retained pseudo-word, these cannot retain a member.
    hold_predictions = concept.kind in ("object", "identity") or pseudo.fraction_within(concept.name, words) > 0.5
    templates = select_templates(concept.kind, config.template_file, config.num_templates)
    seed = run.seed_for("pool", concept.name)
    prompts = ConceptPrompts.from_templates(
        model, concept.words, templates, trajectories, seed, erased_phrase=concept.name, domain_phrases=words,
        templates_per_word=config.templates_per_word,
    )  # fmt: skip
    attack = EmbeddingAttack(
        config.attack_objective, config.concept_weight, config.attack_steps, config.attack_learning_rate,
        config.attack_tokens, config.random_init_prob,
    )  # fmt: skip
    fine = concept.kind in ("style", "identity")
    return ConceptLosses(
        student, run, prompts,
        attacks=WarmStartBuffer(attack, prompts.prompt_tokens, embedding_table(model), config.restart_prob),
        similarity=Similarity(model, config.attack_similarity),
        erasure_loss=ErasureLoss(student, config.target, config.negative_guidance, with_states=config.state_weight > 0),
        pseudo_words=pseudo,
        pseudo_loss=pseudo.prediction_loss if hold_predictions else pseudo.state_loss,
        pseudo_weight=config.pseudo_prediction_weight if hold_predictions else config.pseudo_state_weight,
        synonym_min_cosine=config.synonym_min_cosine if hold_predictions else 1.0,
        graph_weight=config.graph_weight_style_identity if fine else config.graph_weight,
        warmup_steps=config.warmup_steps,
        sizes=BatchSizes(
            config.batch_size, config.clean_batch_size, config.domain_batch_size, config.pseudo_batch_size
        ),
    )  # fmt: skip


def check_config(config: Config, concepts: Sequence[Concept]) -> None:
    """Raises `EffaceError` for settings that do not fit the concepts."""
    if not config.target_modules.startswith("text"):
        raise EffaceError(
            f"SAGE trains the text encoder, not {config.target_modules!r}: set target_modules to text_all or text_mlp"
        )
    if config.warmup_steps < 0:
        raise EffaceError(f"a warm-up of {config.warmup_steps} steps is impossible: set warmup_steps to 0 or more")
    given = len({prompt for concept in concepts for prompt in concept.retain_prompts})
    needed = max(config.top_k, 1 if config.retain_empty_prompt else 2)
    if given < needed:
        raise EffaceError(f"SAGE needs {needed} retain prompts or more, not {given}: give them with --retain-file")
