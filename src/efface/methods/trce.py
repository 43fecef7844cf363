"""TRCE: Towards Reliable Malicious Concept Erasure (Chen, Guo, Wang, Zhang, Nie, Liu, ICCV 2025, arXiv 2503.07389).

1. In closed form, the cross-attention keys and values W map the EOS state k_i of a prompt with the concept to that of
   the same prompt with the anchor, a_i, since EOS holds most of a prompt's content whatever its words:

       1/N sum_i |W' k_i - W a_i|^2 + q |W' R - W R|^2 -> min,        W' = W (I + E)

   R are all tokens of captions (``gram_folder``, or retain and empty prompts) and q (``preserve_weight``) weighs their
   mean. At ``ridge`` 0, as published, too few make a singular system. The default anchor is the rest of a prompt.
2. Self-attention and cross-attention queries learn to steer early steps away from the concept. With the original e*,
   the model after stage 1 e_1, the student e and the prompts c (concept), a (anchor) and 0 (empty),

       prefer = e*(a) + g (e*(a) - e*(0)),        reject = e*(c) + g (e*(c) - e*(0))
       h(p) = max(0, beta ( |e(z_t, t, p) - prefer|^2 - |e(z_t, t, p) - reject|^2 + margin ))
       L = ( h(c) + h(0) ) / 2 + lambda |e(z'_t, t', 0) - e_1(z'_t, t', 0)|^2

   for early z_t of the original's trajectories for c, any z'_t of unconditional ones, and g = ``contrast_guidance``.

Differences: the released code (1) never clears gradients (preset ``released``), (2) pairs z_t with the timestep before,
(3) counts words to find EOS, (4) has 2000 unconditional trajectories, and (5) uses templates without the word alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from efface.core.concept import Concept, fill_templates
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.models.float32_weights import float32_group
from efface.models.protocol import Conditioning, Params
from efface.ops.closed_form import (
    EmbeddingCache,
    Pairs,
    Preserve,
    Problem,
    concept_pairs,
    concept_prompts,
    edited_weights,
    mean_caption_gram,
    solve_and_record,
    to_edit,
)
from efface.ops.contrastive_loss import contrastive_hinge
from efface.ops.targets import classifier_free_guidance
from efface.ops.training.run import Run
from efface.ops.training.running_gradients import RunningGradientSum
from efface.ops.training.schedule import set_learning_rate
from efface.ops.training.student import Student
from efface.ops.training.timestep_range import early_timestep_range
from efface.ops.training.trajectory_config import TrajectoryConfig
from efface.ops.training.trajectory_pool import TrajectoryBatch

CARD = MethodCard(
    name="trce",
    title="TRCE",
    paper="Chen, Guo, Wang, Zhang, Nie, Liu: TRCE: Towards Reliable Malicious Concept Erasure in Text-to-Image "
    "Diffusion Models, ICCV 2025",
    arxiv="2503.07389",
    families=("sd1",),
    trains="cross-attention keys and values in closed form, then its queries and the self-attention",
    needs_gradient=True,
    needs_images=False,
    reconstruction=False,
    summary="Redirects EOS in closed form, then steers early sampling steps away from the concept by training.",
)


@dataclass(frozen=True)
class Config:
    """TRCE's hyper-parameters; the defaults are the paper's for sexual content, given by 20 words."""

    token_positions: str = field(
        default="eos", metadata={"help": "Token states to redirect.", "range": "last, tail, eos, all, after_bos"}
    )
    num_templates: int = field(
        default=15, metadata={"help": "Number of templates from the library.", "range": "0 to 66"}
    )
    preserve_weight: float = field(default=2e-3, metadata={"help": "Weight q: 2e-3 sexual, 8e-3 unsafe content."})
    ridge: float = field(default=0.0, metadata={"help": "Weight lambda of the weights' change."})
    gram_folder: str = field(default="", metadata={"help": "Folder with captions' Gram matrix (`efface gram`)."})
    target_modules: str = field(default="self_attn+cross_q", metadata={"help": "Parameter group to change."})
    steps: int = field(default=300, metadata={"help": "Number of training steps.", "range": "0 (stage 1) to 900"})
    learning_rate: float = field(default=1e-6, metadata={"help": "Learning rate of the optimiser."})
    schedule: str = field(default="constant", metadata={"help": "Learning-rate schedule: constant or cosine."})
    batch_size: int = field(default=1, metadata={"help": "Number of training samples per step."})
    retain_batch_size: int = field(default=4, metadata={"help": "Number of retain samples per step."})
    contrast_guidance: float = field(default=15.0, metadata={"help": "Guidance g of both contrasted predictions."})
    hinge_slope: float = field(default=1.0, metadata={"help": "Slope beta of the hinge."})
    hinge_margin: float = field(default=0.01, metadata={"help": "Margin of the hinge, a mean squared error."})
    retain_weight: float = field(default=100.0, metadata={"help": "Weight of the retain loss."})
    early_step_fraction: float = field(default=0.52, metadata={"help": "Share of a trajectory's steps to train on."})
    retain_early_steps: bool = field(default=False, metadata={"help": "Draw retain samples from these steps alone."})
    num_trajectory_prompts: int = field(default=0, metadata={"help": "Number of further templates for trajectories."})
    trajectories_per_prompt: int = field(default=5, metadata={"help": "Number of pooled trajectories per prompt."})
    retain_trajectories: int = field(default=64, metadata={"help": "Number of unconditional trajectories."})
    num_inference_steps: int = field(default=50, metadata={"help": "Number of steps of the sampler."})
    guidance_scale: float = field(default=3.0, metadata={"help": "Classifier-free guidance scale of the sampler."})
    accumulate_gradients: bool = field(default=False, metadata={"help": "Sum the gradients of all steps so far."})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "released": {"accumulate_gradients": True},
    "pocket": {
        "token_positions": "tail",
        "num_templates": 66,
        "preserve_weight": 0.33,
        "ridge": 0.17,
        "steps": 60,
        "learning_rate": 1e-4,
        "batch_size": 4,
        "contrast_guidance": 3.0,
        "trajectories_per_prompt": 4,
        "retain_trajectories": 16,
        "retain_early_steps": True,
        "num_inference_steps": 20,
    },
}


def trce(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Redirects EOS, then steers early steps; several concepts share the steps evenly."""
    update = solve_and_record(_redirection(model, concepts, config), float32_group(model, "cross_kv").parameters, run)
    edit, tensors = to_edit(model, update, "cross_kv")
    if not config.steps:
        return run.erasure([edit], tensors)
    steering = _train_steering(model, concepts, edited_weights(model, update), config, run).replace_edit()
    return run.erasure([edit, steering[0]], {**tensors, **steering[1]})


def _redirection(model: EditableModel, concepts: Sequence[Concept], config: Config) -> Problem:
    """Builds the closed-form problem of stage 1."""
    cache = EmbeddingCache.for_model(model)
    retain_prompts = [prompt for concept in concepts for prompt in concept.retain_prompts]
    gram = mean_caption_gram(model, cache, retain_prompts, config.gram_folder)
    pairs = Pairs.cat(concept_pairs(cache, concepts, config.num_templates, config.token_positions))
    return Problem(pairs.scaled(1 / len(pairs)), Preserve(gram=gram * config.preserve_weight), config.ridge)


def _train_steering(
    model: EditableModel, concepts: Sequence[Concept], redirected: Params, config: Config, run: Run
) -> Student:
    """Trains stage 2 on the weights after stage 1, ``redirected``."""
    pairs = [pair for concept in concepts for pair in _contrast_pairs(concept, config.num_trajectory_prompts)]
    prompts, anchor_prompts = zip(*pairs, strict=True)
    trajectories = TrajectoryConfig(config.trajectories_per_prompt, config.num_inference_steps, config.guidance_scale)
    pool = trajectories.build_pool(model, prompts, run.seed_for("pool"))
    empty_trajectories = replace(trajectories, per_prompt=config.retain_trajectories)
    empty_pool = empty_trajectories.build_pool(model, [""], run.seed_for("blank"))
    early = early_timestep_range(pool, config.early_step_fraction)
    retained_range = early if config.retain_early_steps else None
    sizes = [config.batch_size, config.batch_size, config.retain_batch_size]
    with torch.no_grad():
        anchors, empty = model.encode(anchor_prompts), model.encode([""])[torch.zeros(sum(sizes), dtype=torch.long)]
    student = Student(model, config.target_modules)
    optimiser = torch.optim.AdamW(student.parameters(), lr=config.learning_rate)
    gradients = RunningGradientSum(student.trainable_params) if config.accumulate_gradients else None
    extra_state = {"gradients": gradients} if gradients else None
    for step in run.steps(config.steps, student.trainable_params, optimiser, extra_state=extra_state):
        set_learning_rate(optimiser, config.learning_rate, config.schedule, step.index, config.steps)
        batch = pool.sample(config.batch_size, run.generator("batch"), timestep_range=early)
        retain = empty_pool.sample(config.retain_batch_size, run.generator("keep"), timestep_range=retained_range)
        with torch.no_grad():
            e_a = model.predict(batch.z, batch.t, anchors[batch.prompt_index]).value
            e_1 = model.predict(retain.z, retain.t, empty[: config.retain_batch_size], params=redirected).value
        z, t = torch.cat([batch.z, batch.z, retain.z]), torch.cat([batch.t, batch.t, retain.t])
        cond = Conditioning.cat([batch.cond, empty[config.batch_size :]])
        predictions = model.predict(z, t, cond, params={**redirected, **student.params()}).value.split(sizes)
        contrast_loss = _contrast_loss(predictions[:2], batch, e_a, config)
        retain_loss = (predictions[2] - e_1).square().mean()
        losses = {"contrast": contrast_loss.detach(), "retain": retain_loss.detach()}
        step.backward(contrast_loss + config.retain_weight * retain_loss, losses)
        if gradients is not None:
            gradients.accumulate()
        step.update()
    return student


def _contrast_loss(predictions: Sequence[Tensor], batch: TrajectoryBatch, e_a: Tensor, config: Config) -> Tensor:
    """Computes (h(c) + h(0)) / 2 from the student's predictions for c and 0, and the original's for the anchor."""
    scale = config.contrast_guidance + 1
    prefer = classifier_free_guidance(e_a, batch.unconditional, scale)
    reject = classifier_free_guidance(batch.conditional, batch.unconditional, scale)
    hinges = [contrastive_hinge(e, prefer, reject, config.hinge_slope, config.hinge_margin) for e in predictions]
    return torch.stack(hinges).mean()


def _contrast_pairs(concept: Concept, num_templates: int) -> list[tuple[str, str]]:
    """Pairs prompts with their anchor prompts: each word in the concept's first template, and in the library's."""
    template = concept.templates[:1]
    anchor = fill_templates(template, [concept.anchor])[0] if concept.anchor else ""
    pairs = dict.fromkeys(fill_templates(template, concept.words), anchor)
    library = concept_prompts(concept, num_templates)
    return list((pairs | {prompt: to for prompt, to, _ in library if prompt not in concept.words}).items())
