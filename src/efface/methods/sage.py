"""SAGE: semantic-augment erasing (Zhu et al., arXiv 2506.09363); a reconstruction, since no code is public.

Only the text encoder E is trained; the denoiser e is frozen, so the edited encoder fits every model that shares it. E*
is the original encoder, c the concept, tau a template, r a retain prompt or the empty one, s a similarity of states:

    p   <- tau filled with c                                                            template library
    for each step:
        if the warm-up is over, J times:                                                self-check, inside-out
            tau <- tau + lr d/dtau [ concept_weight s(E*(p), E*(c)) + s(E(p), E*(c)) ]  `attack_objective`
        L_e <- || e(z_t, t, E(p)) - target(p, c) ||^2                                   self-erasure, ESD's target
        L_g <- mean_ij ( cos(E(r_i), E(r_j)) - cos(E*(r_i), E*(r_j)) )^2                global retention: the graph
        L_l <- || e(z'_t, t, E(r)) - e(z'_t, t, E*(r)) ||^2  over the Top-K drifting r  local retention
        E   <- Adam( L_e + graph_weight L_g + local_weight L_l )

z_t comes from pooled trajectories of the original. Each step also erases prompts without attack, so that what is erased
stays erased. Every setting's origin says whether the paper's summary gives it. Preset ``pocket``
departs in three (``docs/methods/sage.md``): target ``concept_free``, no negative guidance, a graph with E* on one side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.ops.adversarial.embedding_attack import EmbeddingAttack
from efface.ops.adversarial.warm_start import WarmStartBuffer
from efface.ops.retention.relation_graph import RelationGraphLoss
from efface.ops.retention.retain_set import RetainSet, top_k_drift
from efface.ops.text.concept_prompts import ConceptPrompts, check_target
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
    families=("sd1", "sd2", "sdxl", "sd3", "flux"),
    trains="the text encoder without its embeddings",
    needs_gradient=True,
    needs_images=False,
    reconstruction=True,
    summary="Searches from the concept outwards for prompts that bring it back, and erases them, in a cycle.",
)


# fmt: off
@dataclass(frozen=True)
class Config:
    """SAGE's hyper-parameters; the defaults are the paper's where its summary states them."""

    steps: int = field(default=1000, metadata={"help": "Number of training steps.", "origin": "given"})
    warmup_steps: int = field(default=200, metadata={"help": "Number of first steps without attack.", "origin": "given"})  # noqa: E501
    learning_rate: float = field(default=1e-5, metadata={"help": "Learning rate of the optimiser.", "origin": "reconstructed"})  # noqa: E501
    schedule: str = field(default="constant", metadata={"help": "Learning-rate schedule: constant or cosine.", "origin": "reconstructed"})  # noqa: E501
    batch_size: int = field(default=4, metadata={"help": "Number of training samples per step.", "origin": "reconstructed"})  # noqa: E501
    target: str = field(default="neg_prompt", metadata={"help": "Target prediction of a prompt: neg_concept, neg_prompt, neg_keep_context, concept_free.", "origin": "given"})  # noqa: E501
    negative_guidance: float = field(default=1.0, metadata={"help": "Strength eta of the negative guidance.", "origin": "reconstructed"})  # noqa: E501
    attack_steps: int = field(default=30, metadata={"help": "Number of attack steps per training step.", "origin": "given"})  # noqa: E501
    attack_objective: str = field(default="recover_concept", metadata={"help": "Attack objective.", "origin": "reconstructed", "range": "hide_concept, stay_unchanged, recover_concept, diverge, concept_only"})  # noqa: E501
    concept_weight: float = field(default=1.0, metadata={"help": "Weight of the attack's similarity to the concept.", "origin": "reconstructed"})  # noqa: E501
    restart_prob: float = field(default=1.0, metadata={"help": "Probability of an attack restart.", "origin": "reconstructed"})  # noqa: E501
    graph_weight: float = field(default=0.4, metadata={"help": "Weight gamma of the relation graph.", "origin": "given"})  # noqa: E501
    graph_weight_style: float = field(default=3.0, metadata={"help": "The same for a style or an identity.", "origin": "given"})  # noqa: E501
    graph_reference: str = field(default="self", metadata={"help": "Relations within E (self) or with E* (cross).", "origin": "given"})  # noqa: E501
    local_weight: float = field(default=1.0, metadata={"help": "Weight of the local retention.", "origin": "reconstructed"})  # noqa: E501
    top_k: int = field(default=4, metadata={"help": "Number K of drifting retain prompts per step.", "origin": "given"})
    num_templates: int = field(default=0, metadata={"help": "Number of templates from the library.", "origin": "reconstructed", "range": "0 (all) to 66"})  # noqa: E501
    num_inference_steps: int = field(default=50, metadata={"help": "Number of steps of the sampler.", "origin": "reconstructed"})  # noqa: E501


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {
        "learning_rate": 4e-4, "schedule": "cosine", "steps": 250, "warmup_steps": 30, "batch_size": 8, "top_k": 8,
        "target": "concept_free", "negative_guidance": 0.0, "attack_steps": 10, "restart_prob": 0.25,
        "concept_weight": 0.3, "graph_weight": 5.0, "graph_weight_style": 5.0, "graph_reference": "cross",
        "local_weight": 30.0, "num_templates": 24, "num_inference_steps": 20,
    },
}
# fmt: on


def sage(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Erases the domains of ``concepts``, with one attack per concept and step."""
    check_config(config, concepts)
    student = Student(model, "text_all")
    trajectories = TrajectoryConfig(num_inference_steps=config.num_inference_steps)
    attack = EmbeddingAttack(config.attack_objective, config.concept_weight, config.attack_steps, 0.3)
    cycles: list[tuple[ConceptPrompts, WarmStartBuffer]] = []
    for concept in concepts:
        templates = select_templates(concept, config.num_templates)
        seed = run.seed_for("pool", concept.name)
        prompts = ConceptPrompts.from_templates(
            model, concept.words, templates, trajectories, seed, erased_phrase=concept.name
        )
        buffer = WarmStartBuffer(attack, prompts.prompt_tokens, prompts.concept_only, model, config.restart_prob)
        cycles.append((prompts, buffer))
    retained = RetainSet.from_concepts(model, concepts, trajectories, seed=run.seed_for("retained"))
    graph = RelationGraphLoss(retained.original, config.graph_reference)
    fine = any(concept.kind in ("style", "identity") for concept in concepts)
    graph_weight = config.graph_weight_style if fine else config.graph_weight
    optimiser = torch.optim.Adam(student.parameters(), config.learning_rate)
    state = {f"attacks-{i}": attacks for i, (_, attacks) in enumerate(cycles)}
    for step in run.steps(config.steps, student.trainable_params, optimiser, extra_state=state):
        set_learning_rate(optimiser, config.learning_rate, config.schedule, step.index, config.steps)
        attacked = step.index >= config.warmup_steps
        erase = [self_erasure(student, *cycle, config, run, attacked=attacked) for cycle in cycles]
        cond = student.encode(retained.tokens)
        drifted = top_k_drift(cond, retained.original, config.top_k, always_included=retained.empty_prompt_index)
        local = retained.prediction_loss(student, cond, drifted, run.generator("retain"))
        parts = {"erase": torch.stack(erase).mean(), "graph": graph(cond), "local": local}
        loss = parts["erase"] + graph_weight * parts["graph"] + config.local_weight * parts["local"]
        step.optimize(loss, {name: part.detach() for name, part in parts.items()})
    return run.erasure(*student.replace_edits())


def self_erasure(
    student: Student, prompts: ConceptPrompts, attacks: WarmStartBuffer, config: Config, run: Run, *, attacked: bool
) -> Tensor:
    """Computes L_e over prompts of one concept, and after the warm-up also over the prompts that an attack finds."""
    batch = prompts.sample(config.batch_size, run.generator("erase"))
    loss = prompts.prediction_loss(student, batch, None, config.target, config.negative_guidance)
    if not attacked:
        return loss
    batch = prompts.sample(config.batch_size, run.generator("attack"))
    soft, _ = attacks.attack(batch.prompt_index, student, run.generator("restart"))
    return loss + prompts.prediction_loss(student, batch, soft, config.target, config.negative_guidance)


def check_config(config: Config, concepts: Sequence[Concept]) -> None:
    """Raises `EffaceError` for settings that do not fit the concepts."""
    check_target(config.target)
    if config.warmup_steps < 0:
        raise EffaceError(f"a warm-up of {config.warmup_steps} steps is impossible: set warmup_steps to 0 or more")
    given = len({prompt for concept in concepts for prompt in concept.retain_prompts})
    if given < config.top_k:
        raise EffaceError(f"SAGE needs {config.top_k} retain prompts, not {given}: give more with --retain-file")
