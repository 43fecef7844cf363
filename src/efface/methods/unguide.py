"""UnGuide: a LoRA and guidance modulation (arXiv 2508.05755).

A LoRA of the cross-attention's keys and values learns, on latents of the concept's prompt c,

    L = || e(z_t, t, c) - [ e*(z_t, t, r) - eta ( e*(z_t, t, c) - e*(z_t, t, r) ) ] ||^2

with the original e*, a reference prompt r (the concept's anchor) and eta = ``negative_guidance``. At sampling time both
models are predicted with, and their guided predictions are mixed:

    e = w e*_guided + (1 - w) e_guided,    w = ``concept_weight`` if D(p) > k D(""), else ``other_weight``

D(p) is the norm of the LoRA's change at latents of the prompt p, the mean of ``gate_repeats`` of them, and k =
``gate_threshold``. The LoRA is a module that samplers switch off in half of a joint batch: there is one UNet.

Differences: the latents are pooled trajectories of the original, where the authors' come from the model with the LoRA
at guidance scale 9. The timestep of D is exactly that of its latents; in the authors' code it is drawn near it.
``calibrate`` is ours: k is then set halfway between the largest D of the retain prompts and the smallest of the
concept's, both relative to D(""), because on small models D depends on more than the concept. ``num_templates`` and
``retain_weight`` are as for ESD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.core.subsample import evenly_spaced
from efface.models.conditioning import Conditioning
from efface.models.editable import EditableModel
from efface.ops.editing.gate_settings import PredictionChangeSettings
from efface.ops.editing.prediction_gate import prediction_change
from efface.ops.editing.row_strengths import Insertion
from efface.ops.retention.retain_set import RetainSet
from efface.ops.targets import negative_guidance
from efface.ops.text.erase_prompts import ErasePrompts
from efface.ops.training.inserted_student import InsertedStudent
from efface.ops.training.run import Run
from efface.ops.training.schedule import set_learning_rate
from efface.ops.training.trajectory_config import TrajectoryConfig
from efface.ops.training.trajectory_pool import TrajectoryBatch

CARD = MethodCard(
    name="unguide",
    title="UnGuide",
    paper="UnGuide: Learning to Forget with LoRA-Guided Diffusion Models, 2025",
    arxiv="2508.05755",
    families=("sd1", "sd2", "sdxl"),
    trains="a LoRA of cross-attention keys and values",
    needs_gradient=True,
    needs_images=False,
    reconstruction=False,
    summary="Trains a LoRA, and guides prompts of the concept away from the model without it, others away from it.",
)


@dataclass(frozen=True)
class Config:
    """UnGuide's hyper-parameters; the defaults are those of the published code for objects."""

    target_modules: str = field(
        default="cross_kv",
        metadata={
            "help": "Parameter group to change.",
            "range": "cross_kv, cross_all, attn_all, attn_blocks",
        },
    )
    rank: int = field(default=1, metadata={"help": "Rank of the LoRA.", "range": "1 to 8"})
    alpha: float = field(default=8.0, metadata={"help": "Factor of the LoRA, not divided by its rank."})
    steps: int = field(default=200, metadata={"help": "Number of training steps.", "range": "200 to 1000"})
    learning_rate: float = field(
        default=3e-5, metadata={"help": "Learning rate of the optimiser.", "range": "1e-6 to 1e-3"}
    )
    schedule: str = field(default="constant", metadata={"help": "Learning-rate schedule: constant or cosine."})
    batch_size: int = field(default=1, metadata={"help": "Number of training samples per step."})
    negative_guidance: float = field(
        default=2.0, metadata={"help": "Strength eta of the negative guidance.", "range": "0.5 to 3"}
    )
    concept_weight: float = field(default=-1.0, metadata={"help": "Weight w of the original for the concept."})
    other_weight: float = field(default=2.0, metadata={"help": "Weight w of the original for other prompts."})
    gate_repeats: int = field(default=30, metadata={"help": "Number of latents of the decision.", "range": "4 to 30"})
    gate_steps: int = field(default=10, metadata={"help": "Sampling steps before the decision's latents."})
    gate_inference_steps: int = field(default=50, metadata={"help": "Sampling steps of which these are the first."})
    gate_guidance_scale: float = field(default=7.5, metadata={"help": "Guidance scale of these steps."})
    gate_threshold: float = field(default=1.0, metadata={"help": "Change k, relative to the empty prompt's."})
    calibrate: bool = field(default=False, metadata={"help": "Set k from the concept's and the retain prompts."})
    guidance_scale: float = field(default=9.0, metadata={"help": "Classifier-free guidance scale of the sampler."})
    num_inference_steps: int = field(default=50, metadata={"help": "Number of steps of the sampler."})
    trajectories_per_prompt: int = field(default=8, metadata={"help": "Number of pooled trajectories per prompt."})
    num_templates: int = field(
        default=0, metadata={"help": "Number of templates from the library.", "range": "0 to 66"}
    )
    retain_weight: float = field(default=0.0, metadata={"help": "Weight of the retain loss.", "range": "0 to 30"})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {
        "target_modules": "attn_all",
        "rank": 4,
        "alpha": 1.0,
        "steps": 300,
        "learning_rate": 3e-3,
        "schedule": "cosine",
        "batch_size": 8,
        "other_weight": 1.0,
        "gate_repeats": 4,
        "gate_steps": 4,
        "gate_inference_steps": 20,
        "gate_guidance_scale": 3.0,
        "calibrate": True,
        "guidance_scale": 3.0,
        "num_inference_steps": 20,
        "trajectories_per_prompt": 1,
        "num_templates": 66,
        "retain_weight": 25.0,
    },
}
CALIBRATION_PROMPTS = 12
"""Number of prompts of each kind that set the decision's threshold."""


def unguide(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Trains the LoRA, and returns it with the guidance and its gate."""
    trajectories = TrajectoryConfig(config.trajectories_per_prompt, config.num_inference_steps, config.guidance_scale)
    erase = ErasePrompts.from_concepts(model, concepts, config.num_templates, trajectories, run.seed_for("pool"))
    retain_set = RetainSet.if_weighted(config.retain_weight, model, concepts, trajectories, run)
    adapter = f"unguide:{'+'.join(concept.name for concept in concepts)}"
    insertion = Insertion("membrane", config.alpha, adapter=adapter)
    lora = InsertedStudent.membranes(
        model, config.target_modules, config.rank, run.generator("lora"), insertion, init="normal"
    )
    anchors = _anchors(model, concepts, erase.phrases)
    optimiser = torch.optim.Adam(lora.parameters(), lr=config.learning_rate)
    with lora:
        for step in run.steps(config.steps, lora.trainable_params, optimiser):
            set_learning_rate(optimiser, config.learning_rate, config.schedule, step.index, config.steps)
            batch = erase.pool.sample(config.batch_size, run.generator("batch"))
            target = _target(model, batch, anchors, config.negative_guidance)
            loss = (lora.predict(batch.z, batch.t, batch.cond).value - target).square().mean()
            losses = {"erase": loss.detach()}
            if retain_set is not None:
                retain_loss = retain_set.random_loss(lora, config.batch_size, run.generator("retain"))
                loss = loss + config.retain_weight * retain_loss
                losses["retain"] = retain_loss.detach()
            step.optimize(loss, losses)
        insertion.enabled = True
        settings = _gate(model, erase.prompts, concepts, config, run, adapter)
    edit, tensors = lora.module_edit("lora", {"scale": config.alpha, "adapter": adapter})
    weights = {"concept_weight": config.concept_weight, "other_weight": config.other_weight}
    params = {"rule": "unguide", "adapter": adapter, **weights}
    gate = {"kind": "prediction_change", **vars(settings)}
    return run.erasure([edit, Edit("sampler", "guidance", {}, gate, params)], tensors)


def _anchors(model: EditableModel, concepts: Sequence[Concept], phrases: Sequence[str]) -> Conditioning:
    """Encodes the reference prompt of each prompt to erase from."""
    anchor_of = {word: concept.anchor for concept in concepts for word in concept.words}
    with torch.no_grad():
        return model.encode([anchor_of[phrase] for phrase in phrases])


@torch.no_grad()
def _target(model: EditableModel, batch: TrajectoryBatch, anchors: Conditioning, eta: float) -> Tensor:
    """Computes e*_r - eta (e*_c - e*_r)."""
    e_r = model.predict(batch.z, batch.t, anchors[batch.prompt_index]).value
    return negative_guidance(e_r, batch.conditional, e_r, eta)


def _gate(
    model: EditableModel, prompts: Sequence[str], concepts: Sequence[Concept], config: Config, run: Run, adapter: str
) -> PredictionChangeSettings:
    """Returns the settings of the decision, with its threshold calibrated if the configuration says so."""
    settings = PredictionChangeSettings(
        adapter, config.gate_threshold, config.gate_repeats, config.gate_steps, config.gate_inference_steps,
        config.gate_guidance_scale, run.seed_for("gate") % 2**31,
    )  # fmt: skip
    retained = [prompt for concept in concepts for prompt in concept.retain_prompts]
    if not config.calibrate or not retained:
        return settings
    base = prediction_change(model, model.unconditional(1), settings)

    def changes(texts: Sequence[str]) -> list[float]:
        chosen = evenly_spaced(tuple(texts), CALIBRATION_PROMPTS)
        return [float(prediction_change(model, model.encode([text]), settings) / base) for text in chosen]

    concept, others = min(changes(prompts)), max(changes(retained))
    run.record("gate", {"concept": concept, "retained": others})
    return replace(settings, threshold=(concept + others) / 2)
