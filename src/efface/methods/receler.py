"""Receler: reliable concept erasing with lightweight erasers (Huang et al., ECCV 2024, arXiv 2311.17717).

An eraser E, two matrices with a GELU between them, is inserted behind every cross-attention layer: its output is added
to the layer's own, h + E(h). With the frozen model e* and the model with erasers e, every step trains

    L = || e(z_t, t, c') - [ e*(z_t, t, "") - eta ( e*(z_t, t, c) - e*(z_t, t, "") ) ] ||^2  +  lambda R
    R = mean over layers of  sum over pixels of (1 - M) mean over channels of E^2  /  sum over pixels of (1 - M)

R keeps the erasers silent outside of the concept's region M: pixels whose attention to the concept, averaged over the
layers at a quarter of the latent's side and scaled to [0, 1], reaches ``mask_threshold``. c' is the prompt c with
learned states behind its words, which ``attack_steps`` steps first move to where e still predicts e*(z_t, t, c).

Differences: the latents are pooled trajectories of the original, as for ESD; in the paper the model with erasers
samples before every step. The published code writes the learned states to a copy, so that they never reach the prompt:
preset ``released``, without them. Its layers for M are those of 16 x 16 pixels, which other image sizes lack.
``num_templates`` and ``retain_weight`` are as for ESD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.models.attention_maps import attention_maps
from efface.models.editable import EditableModel
from efface.ops.adversarial.adversarial_states import AdversarialStates
from efface.ops.latent_masks import concept_attention, resize_mask, threshold_attention
from efface.ops.retention.retain_set import RetainSet
from efface.ops.targets import negative_guidance
from efface.ops.text.concept_tokens import mention_mask
from efface.ops.text.erase_prompts import ErasePrompts
from efface.ops.training.inserted_student import InsertedStudent
from efface.ops.training.run import Run
from efface.ops.training.schedule import set_learning_rate
from efface.ops.training.trajectory_config import TrajectoryConfig
from efface.ops.training.trajectory_pool import TrajectoryBatch

CARD = MethodCard(
    name="receler",
    title="Receler",
    paper="Huang et al.: Receler: Reliable Concept Erasing of Text-to-Image Diffusion Models via Lightweight Erasers, "
    "ECCV 2024",
    arxiv="2311.17717",
    families=("sd1", "sd2", "sdxl"),
    trains="erasers behind the cross-attention layers",
    needs_gradient=True,
    needs_images=False,
    reconstruction=False,
    summary="Trains erasers behind cross-attention, silent outside of the concept's region, against learned states.",
)


@dataclass(frozen=True)
class Config:
    """Receler's hyper-parameters; the defaults are the paper's."""

    eraser_width: int = field(
        default=128, metadata={"help": "Width of an eraser's hidden layer.", "range": "16 to 128"}
    )
    steps: int = field(default=500, metadata={"help": "Number of training steps.", "range": "200 to 1000"})
    learning_rate: float = field(
        default=3e-4, metadata={"help": "Learning rate of the optimiser.", "range": "1e-6 to 1e-3"}
    )
    schedule: str = field(default="constant", metadata={"help": "Learning-rate schedule: constant or cosine."})
    batch_size: int = field(default=1, metadata={"help": "Number of training samples per step."})
    negative_guidance: float = field(
        default=1.0, metadata={"help": "Strength eta of the negative guidance.", "range": "0.5 to 3"}
    )
    mask_weight: float = field(
        default=0.1, metadata={"help": "Weight lambda of the erasers outside of the concept's region."}
    )
    mask_threshold: float = field(default=0.1, metadata={"help": "Smallest attention within the concept's region."})
    attack_steps: int = field(default=50, metadata={"help": "Number of attack steps per training step."})
    num_learned_states: int = field(default=16, metadata={"help": "Number of learned states behind the words."})
    guidance_scale: float = field(default=3.0, metadata={"help": "Classifier-free guidance scale of the sampler."})
    num_inference_steps: int = field(default=50, metadata={"help": "Number of steps of the sampler."})
    trajectories_per_prompt: int = field(default=8, metadata={"help": "Number of pooled trajectories per prompt."})
    num_templates: int = field(
        default=0, metadata={"help": "Number of templates from the library.", "range": "0 to 66"}
    )
    retain_weight: float = field(default=0.0, metadata={"help": "Weight of the retain loss.", "range": "0 to 30"})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "released": {"attack_steps": 0},
    "pocket": {
        "eraser_width": 128,
        "steps": 300,
        "learning_rate": 3e-3,
        "schedule": "cosine",
        "batch_size": 8,
        "negative_guidance": 3.0,
        "mask_weight": 0.01,
        "attack_steps": 0,
        "num_inference_steps": 20,
        "trajectories_per_prompt": 1,
        "num_templates": 66,
        "retain_weight": 30.0,
    },
}


def receler(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Trains one set of erasers for all concepts."""
    trajectories = TrajectoryConfig(config.trajectories_per_prompt, config.num_inference_steps, config.guidance_scale)
    erase = ErasePrompts.from_concepts(model, concepts, config.num_templates, trajectories, run.seed_for("pool"))
    retain_set = RetainSet.if_weighted(config.retain_weight, model, concepts, trajectories, run)
    erasers = InsertedStudent.erasers(model, config.eraser_width, run.generator("erasers"))
    states = erase.pool.cond.states
    learned = AdversarialStates(config.num_learned_states, states.shape[-1], run.generator("learned"), states)
    optimiser = torch.optim.Adam(erasers.parameters(), lr=config.learning_rate)
    steps = run.steps(config.steps, erasers.trainable_params, optimiser, extra_state={"learned": learned})
    tokens = model.tokenize(erase.prompts)
    words = mention_mask(model, tokens, erase.phrases)
    with erasers:
        for step in steps:
            set_learning_rate(optimiser, config.learning_rate, config.schedule, step.index, config.steps)
            batch = erase.pool.sample(config.batch_size, run.generator("batch"))
            rows = batch.prompt_index
            cond = batch.cond
            if config.attack_steps:
                _attack(erasers, learned, batch, tokens.eos[rows], config.attack_steps)
                with torch.no_grad():
                    cond = learned.insert(cond, tokens.eos[rows])
            mask = _concept_mask(model, batch, words[rows], config.mask_threshold)
            target = negative_guidance(
                batch.unconditional, batch.conditional, batch.unconditional, config.negative_guidance
            )
            outputs: list[Tensor] = []
            erasers.insertion.record = outputs
            erase_loss = (erasers.predict(batch.z, batch.t, cond).value - target).square().mean()
            erasers.insertion.record = None
            mask_loss = silence_loss(outputs, mask)
            loss = erase_loss + config.mask_weight * mask_loss
            losses = {"erase": erase_loss.detach(), "mask": mask_loss.detach()}
            if retain_set is not None:
                retain_loss = retain_set.random_loss(erasers, config.batch_size, run.generator("retain"))
                loss, losses["retain"] = loss + config.retain_weight * retain_loss, retain_loss.detach()
            step.optimize(loss, losses)
    edit, tensors = erasers.module_edit("eraser", {})
    return run.erasure([edit], tensors)


def _attack(
    erasers: InsertedStudent, learned: AdversarialStates, batch: TrajectoryBatch, eos: Tensor, steps: int
) -> None:
    """Moves the learned states to where the model with erasers predicts the concept as the original does."""

    def loss() -> Tensor:
        prediction = erasers.predict(batch.z, batch.t, learned.insert(batch.cond, eos)).value
        return (prediction - batch.conditional).square().mean()

    learned.improve(steps, loss)


@torch.no_grad()
def _concept_mask(model: EditableModel, batch: TrajectoryBatch, words: Tensor, threshold: float) -> Tensor:
    """Computes M from the original's attention to the concept's words, ``(B, pixels)``."""
    with attention_maps(model) as maps:
        model.predict(batch.z, batch.t, batch.cond)
    return threshold_attention(concept_attention(maps, words, batch.z[0, 0].numel()), threshold)


def silence_loss(outputs: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Computes R, a scalar.

    Args:
        outputs: of the erasers, ``(B, pixels, C)`` each.
        mask: the concept's region, ``(B, pixels)``, of any number of pixels.
    """
    losses = []
    for output in outputs:
        outside = 1 - resize_mask(mask, output.shape[1])
        losses.append((output.square().mean(-1) * outside).sum() / (outside.sum() + 1e-9))
    return torch.stack(losses).mean()
