"""ACE: anti-editing concept erasure (Wang et al., 2025, arXiv 2501.01633).

An edit of an existing image starts from its inverted noise, where guidance brings a concept back that only the
conditional prediction has lost. ACE also moves the unconditional prediction, *towards* the concept c, so that guidance
subtracts it for every prompt:

    corr   = sum_j s_j ( e*(z, t, p_j) - e*_0 )                      two random prior prompts p_j
    L_unc  = || e(z, t, "") - [ e*_0 + eta ( e*_c - e*_0 ) - gamma corr ] ||^2
    L_cond = || e(z, t, c) - [ e*_0 - eta ( e*_c - e*_0 ) ] ||^2
    L_cons = mean_j || e(z, t, p_j) - e*(z, t, p_j) ||^2
    L      = (1 - lambda) [ w L_unc + (1 - w) L_cond ] + lambda L_cons

with a LoRA in e beside the original e*, and all predictions at the same z of a guided trajectory for c. eta =
``negative_guidance``, gamma = ``correction_guidance``, w = ``uncond_weight``, lambda = ``prior_weight``. The prior
prompts are the retain prompts. s_j says how near p_j is to c.

Differences: the trajectories are the original's, pooled, and the paper's are the student's. The paper measures s_j by
CLIP on images of the prior concepts; here it is the cosine of the text encoder's states of p_j and c, each less the
empty prompt's, at least 0. The LoRA is not scaled by 1/4, A is drawn as in diffusers, and layers outside of attention
are trained with ``unet_linear`` alone. The published code trains on finished images at random t, which is an error, so
that there is no preset ``released``. ``num_templates`` sets the number of prompts besides the concept's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from efface.core.concept import Concept, distinct_retain_prompts
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning
from efface.ops.targets import negative_guidance
from efface.ops.text.erase_prompts import ErasePrompts
from efface.ops.training.lora import LoraAdapter
from efface.ops.training.run import Run
from efface.ops.training.schedule import set_learning_rate
from efface.ops.training.trajectory_config import TrajectoryConfig
from efface.ops.training.trajectory_pool import TrajectoryBatch

CARD = MethodCard(
    name="ace",
    title="ACE",
    paper="Wang et al.: ACE: Anti-Editing Concept Erasure in Text-to-Image Models, CVPR 2025",
    arxiv="2501.01633",
    families=("sd1", "sd2", "sdxl"),
    trains="a LoRA of the UNet's attention",
    needs_gradient=True,
    needs_images=False,
    reconstruction=False,
    summary="Erases the concept from the unconditional prediction, too, so that edits of images do not restore it.",
)


@dataclass(frozen=True)
class Config:
    """ACE's hyper-parameters; the defaults are the paper's."""

    target_modules: str = field(
        default="attn_all", metadata={"help": "Parameter group to change.", "range": "attn_all, cross_all, unet_linear"}
    )
    lora_rank: int = field(default=4, metadata={"help": "Rank of the LoRA.", "range": "4 to 32"})
    steps: int = field(default=1500, metadata={"help": "Number of training steps."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Learning rate of the optimiser."})
    schedule: str = field(default="constant", metadata={"help": "Learning-rate schedule: constant or cosine."})
    batch_size: int = field(default=1, metadata={"help": "Number of training samples per step."})
    negative_guidance: float = field(default=3.0, metadata={"help": "Strength eta of the negative guidance."})
    correction_guidance: float = field(default=3.0, metadata={"help": "Strength gamma of the prior prompts' guidance."})
    uncond_weight: float = field(default=0.99, metadata={"help": "Share w of the unconditional prediction's loss."})
    prior_weight: float = field(default=0.8, metadata={"help": "Share lambda of the prior prompts' loss."})
    guidance_scale: float = field(default=3.0, metadata={"help": "Classifier-free guidance scale of the sampler."})
    num_inference_steps: int = field(default=30, metadata={"help": "Number of steps of the sampler."})
    trajectories_per_prompt: int = field(default=8, metadata={"help": "Number of pooled trajectories per prompt."})
    num_templates: int = field(
        default=0, metadata={"help": "Number of templates from the library.", "range": "0 to 66"}
    )


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {
        "lora_rank": 16,
        "steps": 300,
        "schedule": "cosine",
        "batch_size": 4,
        "uncond_weight": 0.5,
        "correction_guidance": 0.0,
        "num_inference_steps": 20,
        "trajectories_per_prompt": 1,
        "num_templates": 66,
    },
}

NUM_PRIORS = 2
"""Number of prior prompts of each training sample."""


def ace(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Erases the concepts from both predictions; several concepts share the steps evenly."""
    priors = _encode_priors(model, concepts)
    trajectories = TrajectoryConfig(config.trajectories_per_prompt, config.num_inference_steps, config.guidance_scale)
    erase = ErasePrompts.from_concepts(model, concepts, config.num_templates, trajectories, run.seed_for("pool"))
    relevance = _relevance(model, priors, erase.phrase_cond)
    lora = LoraAdapter(model, config.target_modules, config.lora_rank, run.generator("lora"))
    optimiser = torch.optim.Adam(list(lora.trainable_params.values()), lr=config.learning_rate)
    for step in run.steps(config.steps, lora.trainable_params, optimiser):
        set_learning_rate(optimiser, config.learning_rate, config.schedule, step.index, config.steps)
        batch = erase.pool.sample(config.batch_size, run.generator("batch"))
        rows = torch.randint(len(relevance), (NUM_PRIORS, config.batch_size), generator=run.generator("prior"))
        scales = relevance[rows, batch.prompt_index.cpu()][..., None, None, None].to(batch.z)
        losses = _losses(lora, batch, priors[rows.flatten().to(model.device)], scales, config)
        erasing = config.uncond_weight * losses["uncond"] + (1 - config.uncond_weight) * losses["cond"]
        loss = (1 - config.prior_weight) * erasing + config.prior_weight * losses["prior"]
        step.optimize(loss, {name: part.detach() for name, part in losses.items()})
    edit, tensors = lora.to_edit()
    return run.erasure([edit], tensors)


def _losses(
    lora: LoraAdapter, batch: TrajectoryBatch, prior_cond: Conditioning, scales: Tensor, config: Config
) -> dict[str, Tensor]:
    """Computes L_unc, L_cond and L_cons.

    Args:
        lora: the student.
        batch: B training tuples.
        prior_cond: conditioning of the prior prompts, those of each tuple's first prompt before those of the second.
        scales: s_j, ``(2, B, 1, 1, 1)``.
        config: the strengths of the guidance.
    """
    z, t = batch.z.repeat(NUM_PRIORS, 1, 1, 1), batch.t.repeat(NUM_PRIORS)
    with torch.no_grad():
        e_p = lora.model.predict(z, t, prior_cond).value
    cond = Conditioning.cat([lora.model.unconditional(len(batch.z)), batch.cond, prior_cond])
    predicted = lora.predict(torch.cat([batch.z, batch.z, z]), torch.cat([batch.t, batch.t, t]), cond).value
    student_0, student_c, student_p = predicted.tensor_split([len(batch.z), 2 * len(batch.z)])
    e_c, e_0 = batch.conditional, batch.unconditional
    correction = (scales * (e_p.unflatten(0, (NUM_PRIORS, -1)) - e_0)).sum(0)
    target_0 = negative_guidance(e_0, e_c, e_0, -config.negative_guidance) - config.correction_guidance * correction
    target_c = negative_guidance(e_0, e_c, e_0, config.negative_guidance)
    return {
        "uncond": (student_0 - target_0).square().mean(),
        "cond": (student_c - target_c).square().mean(),
        "prior": (student_p - e_p).square().mean(),
    }


@torch.no_grad()
def _encode_priors(model: EditableModel, concepts: Sequence[Concept]) -> Conditioning:
    """Returns the conditioning of the retain prompts."""
    prompts = distinct_retain_prompts(concepts)
    if not prompts:
        raise EffaceError("ACE has no prior concepts: give retain prompts with --retain-file")
    return model.encode(prompts)


@torch.no_grad()
def _relevance(model: EditableModel, priors: Conditioning, phrases: Conditioning) -> Tensor:
    """Returns how near each prior prompt is to the concept of each prompt, ``(priors, prompts)``, in [0, 1]."""
    empty = model.unconditional(1).states
    rows, columns = ((cond.states - empty).float().flatten(1) for cond in (priors, phrases))
    return cosine_similarity(rows[:, None], columns[None], dim=-1).clamp(min=0).cpu()
