"""AdvUnlearn: adversarial unlearning of the text encoder (Zhang et al., NeurIPS 2024, arXiv 2405.15234).

ESD's loss on the text encoder E, under the worst token d in front of the prompt, with a retain set beside it; the denoiser e is frozen:

    d   <- argmin_d  || e(z_t, t, E([d, c])) - e(z_t, t, E*(c)) ||^2                 J steps through the denoiser
    L   =  || e(z_t, t, E([d, c])) - [ e(z_t, t, "") - eta ( e(z_t, t, E*(c)) - e(z_t, t, "") ) ] ||^2
           + retain || e(z'_t, t, E(r)) - e(z'_t, t, E*(r)) ||^2

with a warm-up without d. ``templates`` says in how many sentences c is erased, and ``target`` what of a sentence stays, both as in `sage`,
so that the two are compared on equal terms; the published method takes the prompt alone.

Where we differ: states, e(E*(c)), e("") and e(E*(r)) come from pooled trajectories of the original, so that the 50 passes of sampling
before every attack step fall away (the states never depend on E, so the distribution is the same); the attack's gradients are not
accumulated over its steps, as the released code does by oversight, and the last d is the one that is used.
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
from efface.ops.retention.relation_graph import RetainSet
from efface.ops.text.concept_prompts import TARGETS, ConceptPrompts, TrajectoryConfig
from efface.ops.text.soft_prompts import embedding_table
from efface.ops.text.templates import template_library, templates_for_kind
from efface.ops.training.chunked_loss import prediction_error
from efface.ops.training.run import Run
from efface.ops.training.student import Student
from efface.ops.training.trajectory_pool import TrajectoryBatch

CARD = MethodCard(
    name="advunlearn",
    title="AdvUnlearn",
    paper="Zhang, Chen, Jia, Zhang, Fan, Liu, Hong, Ding, Liu: Defensive Unlearning with Adversarial Training, NeurIPS 2024",
    arxiv="2405.15234",
    families=("sd1", "sd2", "sdxl"),
    trains="the text encoder without its embeddings",
    needs_gradient=True,
    needs_images=False,
    vram={},
    minutes={},
    reconstruction=False,
    summary="Trains the text encoder against an adversarial token in front of the concept.",
)


@dataclass(frozen=True)
class Config:
    """AdvUnlearn's hyper-parameters; the defaults are the published ones."""

    target_modules: str = field(
        default="text_all", metadata={"help": "what is trained of the text encoder: text_all, text_layers:0, text_mlp"}
    )
    steps: int = field(default=1000, metadata={"help": "training steps, the warm-up's included"})
    warmup_steps: int = field(default=200, metadata={"help": "first steps, without an attack"})
    learning_rate: float = field(default=1e-5, metadata={"help": "Adam's learning rate"})
    batch_size: int = field(default=1, metadata={"help": "sentences a step"})
    negative_guidance: float = field(default=1.0, metadata={"help": "strength of the negative guidance"})
    target: str = field(
        default="neg_prompt",
        metadata={"help": "Target prediction of a prompt: neg_concept, neg_prompt, neg_keep_context, concept_free."},
    )
    attack_steps: int = field(default=30, metadata={"help": "steps of an attack"})
    attack_learning_rate: float = field(default=1e-3, metadata={"help": "of the attack's Adam"})
    num_adversarial_tokens: int = field(default=1, metadata={"help": "adversarial tokens in front of the prompt"})
    retain_weight: float = field(default=0.3, metadata={"help": "weight of the retain set"})
    retain_batch_size: int = field(default=5, metadata={"help": "retained prompts a step"})
    num_templates: int = field(
        default=0, metadata={"help": "sentences of the template library; 0: the concept's own templates"}
    )
    guidance_scale: float = field(default=3.0, metadata={"help": "guidance scale of the pooled runs"})
    num_inference_steps: int = field(default=50, metadata={"help": "DDIM steps of a run"})
    trajectories_per_prompt: int = field(default=4, metadata={"help": "pooled runs for each prompt"})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {
        "learning_rate": 2e-4, "steps": 120, "warmup_steps": 40, "batch_size": 8, "attack_steps": 10, "attack_learning_rate": 0.01, "retain_weight": 1.0, "num_templates": 24,
        "num_inference_steps": 20, "trajectories_per_prompt": 1, "negative_guidance": 2.0, "target": "neg_keep_context",
    },
}  # fmt: skip


def advunlearn(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Erase ``concepts`` from the text encoder under attack; each has its own adversarial tokens at every step."""
    if config.target not in TARGETS:
        raise UnknownNameError("target", config.target, TARGETS)
    runs = TrajectoryConfig(config.trajectories_per_prompt, config.num_inference_steps, config.guidance_scale)
    targets = [erase_sentences(model, concept, config, runs, run) for concept in concepts]
    retained = RetainSet.of(model, concepts, runs, empty=False, seed=run.seed_for("retained"))
    student, width = Student(model, config.target_modules), embedding_table(model).shape[1]
    optimiser = torch.optim.Adam(student.parameters(), lr=config.learning_rate)
    for step in run.steps(config.steps, student.masters, optimiser):
        erase: Tensor = torch.zeros((), device=model.device)
        for sentence in targets:
            batch, soft = sentence.pool.sample(config.batch_size, run.generator("erase")), None
            if step.index >= config.warmup_steps:
                soft = search_prefix(model, student, sentence, batch, config, run, width)
            target = sentence.target(model, batch, None, config.target, config.negative_guidance)
            cond = student.encode(sentence.frames[batch.prompt].tokens, soft=soft)
            erase = erase + prediction_error(student, batch.z, batch.t, cond, target) / len(targets)
        now = student.encode(retained.tokens)
        some = torch.randperm(len(now.states), generator=run.generator("retain"))[: config.retain_batch_size]
        kept = retained.prediction_loss(student, now, some, run.generator("retain"))
        step.optimize(erase + config.retain_weight * kept, {"erase": erase.detach(), "retain": kept.detach()})
    edits, tensors = student.replace_edits()
    return run.erasure(edits, tensors)


def erase_sentences(
    model: EditableModel, concept: Concept, config: Config, runs: TrajectoryConfig, run: Run
) -> ConceptPrompts:
    """The concept's words in its own templates, or in the library's."""
    chosen = concept.templates
    if config.num_templates:
        chosen = tuple(
            evenly_spaced(
                [t for t in templates_for_kind(template_library(concept.kind), concept.kind) if t != PLACEHOLDER],
                config.num_templates,
            )
        )
    return ConceptPrompts.of(model, concept.words, chosen, runs, run.seed_for("pool", concept.name))


def search_prefix(
    model: EditableModel,
    student: Student,
    sentence: ConceptPrompts,
    batch: TrajectoryBatch,
    config: Config,
    run: Run,
    width: int,
) -> Tensor:
    """Tokens ``(B, k, D)`` in front of the prompts with which the student still predicts what the original does for them."""
    tokens, encode, table = (
        sentence.frames[batch.prompt].tokens,
        student.frozen_encoder(),
        embedding_table(model).float(),
    )
    first = torch.randint(
        len(table), (config.batch_size, config.num_adversarial_tokens), generator=run.generator("attack")
    )
    soft = table[first.to(table.device)].clone().requires_grad_(True)
    optimiser = torch.optim.Adam([soft], lr=config.attack_learning_rate)
    for _ in range(config.attack_steps):
        state = sentence.pool.sample_each(batch.prompt.tolist(), run.generator("attack"))
        predicted = model.predict(state.z, state.t, encode(tokens, soft=soft)).value
        losses = (predicted - state.conditional).square().mean((1, 2, 3))
        (soft.grad,) = torch.autograd.grad(losses.sum(), soft)
        optimiser.step()
    return soft.detach()
