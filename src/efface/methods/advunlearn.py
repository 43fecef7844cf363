"""AdvUnlearn: adversarial unlearning of the text encoder (Zhang et al., NeurIPS 2024, arXiv 2405.15234).

An attack searches adversarial tokens d in front of each prompt c, and the text encoder E is trained with ESD's loss on
the attacked prompts. A second term retains the predictions for retain prompts r. The denoiser e is frozen, and E* is
the original encoder:

    d <- argmin_d || e(z_t, t, E([d, c])) - e(z_t, t, E*(c)) ||^2           by gradients through the denoiser
    L  = || e(z_t, t, E([d, c])) - [ e(z_t, t, "") - eta ( e(z_t, t, E*(c)) - e(z_t, t, "") ) ] ||^2
         + lambda || e(z'_t, t, E(r)) - e(z'_t, t, E*(r)) ||^2

with eta = ``negative_guidance`` and lambda = ``retain_weight``; the first ``warmup_steps`` steps have no d.

Differences: the paper erases the bare prompt, the word alone; ``num_templates`` > 0 erases c in the library's templates
instead, and ``target`` chooses what remains of a prompt, both as in SAGE, for a fair comparison. z_t and the original's
predictions come from pooled trajectories of the original, which saves 50 sampling passes before every attack; the
distribution is the same, since z_t never depends on E. The released code accumulates the attack's gradients over its
steps by oversight; here they are not accumulated, and the last d is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from efface.core.concept import PLACEHOLDER, Concept
from efface.core.erasure import Erasure
from efface.core.errors import UnknownNameError
from efface.core.method_card import MethodCard
from efface.core.subsample import evenly_spaced
from efface.models.editable import EditableModel
from efface.ops.retention.retain_set import RetainSet
from efface.ops.text.concept_prompts import TARGETS, ConceptPrompts
from efface.ops.text.soft_prompts import embedding_table
from efface.ops.text.templates import select_templates
from efface.ops.training.chunked_loss import prediction_error
from efface.ops.training.run import Run
from efface.ops.training.student import Student
from efface.ops.training.trajectory_config import TrajectoryConfig
from efface.ops.training.trajectory_pool import TrajectoryBatch

CARD = MethodCard(
    name="advunlearn",
    title="AdvUnlearn",
    paper="Zhang, Chen, Jia, Zhang, Fan, Liu, Hong, Ding, Liu: Defensive Unlearning with Adversarial Training, "
    "NeurIPS 2024",
    arxiv="2405.15234",
    families=("sd1", "sd2", "sdxl"),
    trains="the text encoder without its token embeddings",
    needs_gradient=True,
    needs_images=False,
    reconstruction=False,
    summary="Trains the text encoder against an attack that searches adversarial tokens in front of the concept.",
)


@dataclass(frozen=True)
class Config:
    """AdvUnlearn's hyper-parameters; the defaults are the published ones."""

    target_modules: str = field(
        default="text_all",
        metadata={"help": "Parameter group to change.", "range": "text_all, text_layers:0, text_mlp"},
    )
    steps: int = field(default=1000, metadata={"help": "Number of training steps."})
    warmup_steps: int = field(default=200, metadata={"help": "Number of first steps without attack."})
    learning_rate: float = field(default=1e-5, metadata={"help": "Learning rate of the optimiser."})
    batch_size: int = field(default=1, metadata={"help": "Number of training samples per step."})
    negative_guidance: float = field(default=1.0, metadata={"help": "Strength eta of the negative guidance."})
    target: str = field(
        default="neg_prompt",
        metadata={"help": "Target prediction of a prompt: neg_concept, neg_prompt, neg_keep_context, concept_free."},
    )
    attack_steps: int = field(default=30, metadata={"help": "Number of attack steps per training step."})
    attack_learning_rate: float = field(default=1e-3, metadata={"help": "Learning rate of the attack's Adam."})
    num_adversarial_tokens: int = field(
        default=1, metadata={"help": "Number of adversarial tokens in front of a prompt."}
    )
    retain_weight: float = field(default=0.3, metadata={"help": "Weight of the retain loss."})
    retain_batch_size: int = field(default=5, metadata={"help": "Number of retain samples per step."})
    num_templates: int = field(
        default=0,
        metadata={
            "help": "Number of templates from the library.",
            "range": "0 (the word alone) to 66",
        },
    )
    guidance_scale: float = field(default=3.0, metadata={"help": "Classifier-free guidance scale of the sampler."})
    num_inference_steps: int = field(default=50, metadata={"help": "Number of steps of the sampler."})
    trajectories_per_prompt: int = field(default=4, metadata={"help": "Number of pooled trajectories per prompt."})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {
        "learning_rate": 2e-4,
        "steps": 120,
        "warmup_steps": 40,
        "batch_size": 8,
        "attack_steps": 10,
        "attack_learning_rate": 0.01,
        "retain_weight": 1.0,
        "num_templates": 24,
        "num_inference_steps": 20,
        "trajectories_per_prompt": 1,
        "negative_guidance": 2.0,
        "target": "neg_keep_context",
    },
}


def advunlearn(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Erases the concepts from the text encoder; every step attacks each concept separately."""
    if config.target not in TARGETS:
        raise UnknownNameError("target", config.target, TARGETS)
    trajectories = TrajectoryConfig(config.trajectories_per_prompt, config.num_inference_steps, config.guidance_scale)
    prompt_sets = [_concept_prompts(model, concept, config, trajectories, run) for concept in concepts]
    retain_set = RetainSet.from_concepts(
        model, concepts, trajectories, with_empty_prompt=False, seed=run.seed_for("retained")
    )
    student = Student(model, config.target_modules)
    optimiser = torch.optim.Adam(student.parameters(), lr=config.learning_rate)
    for step in run.steps(config.steps, student.trainable_params, optimiser):
        erase_loss: Tensor = torch.zeros((), device=model.device)
        for prompts in prompt_sets:
            batch = prompts.pool.sample(config.batch_size, run.generator("erase"))
            adversarial = None
            if step.index >= config.warmup_steps:
                adversarial = _attack(student, prompts, batch, config, run)
            target = prompts.target(model, batch, None, config.target, config.negative_guidance)
            cond = student.encode(prompts.prompt_tokens[batch.prompt_index].tokens, soft=adversarial)
            erase_loss = erase_loss + prediction_error(student, batch.z, batch.t, cond, target) / len(prompt_sets)
        retain_loss = _retain_loss(student, retain_set, config, run)
        losses = {"erase": erase_loss.detach(), "retain": retain_loss.detach()}
        step.optimize(erase_loss + config.retain_weight * retain_loss, losses)
    return run.erasure(*student.replace_edits())


def _concept_prompts(
    model: EditableModel, concept: Concept, config: Config, trajectories: TrajectoryConfig, run: Run
) -> ConceptPrompts:
    """Returns the concept's words, or templates of the library with them, as prompts to erase."""
    templates: Sequence[str] = (PLACEHOLDER,)
    if config.num_templates:
        templates = evenly_spaced(select_templates(concept), config.num_templates)
    seed = run.seed_for("pool", concept.name)
    return ConceptPrompts.from_templates(model, concept.words, templates, trajectories, seed)


def _attack(student: Student, prompts: ConceptPrompts, batch: TrajectoryBatch, config: Config, run: Run) -> Tensor:
    """Searches token embeddings d ``(B, k, D)`` that make the student predict what the original predicts for c."""
    model, generator = student.model, run.generator("attack")
    tokens = prompts.prompt_tokens[batch.prompt_index].tokens
    encode = student.frozen_encoder()
    table = embedding_table(model).float()
    token_ids = torch.randint(len(table), (config.batch_size, config.num_adversarial_tokens), generator=generator)
    adversarial = table[token_ids.to(table.device)].clone().requires_grad_(True)
    optimiser = torch.optim.Adam([adversarial], lr=config.attack_learning_rate)
    for _ in range(config.attack_steps):
        original = prompts.pool.sample_each(batch.prompt_index.tolist(), generator)
        predicted = model.predict(original.z, original.t, encode(tokens, soft=adversarial)).value
        losses = (predicted - original.conditional).square().mean((1, 2, 3))
        (adversarial.grad,) = torch.autograd.grad(losses.sum(), adversarial)
        optimiser.step()
    return adversarial.detach()


def _retain_loss(student: Student, retain_set: RetainSet, config: Config, run: Run) -> Tensor:
    """Error of the student's predictions for randomly chosen retain prompts."""
    generator = run.generator("retain")
    cond = student.encode(retain_set.tokens)
    chosen = torch.randperm(len(cond.states), generator=generator)[: config.retain_batch_size]
    return retain_set.prediction_loss(student, cond, chosen, generator)
