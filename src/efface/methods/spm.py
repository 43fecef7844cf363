"""SPM: concept semi-permeable membranes (Lyu et al., CVPR 2024, arXiv 2312.16145).

A membrane is a LoRA of rank 1 at every linear and convolution layer of the denoiser's attention blocks, feed-forward
layers included; one set of them erases one concept, and the weights stay as they are. With the frozen model e* and the
model with membranes e:

    L_erase  = || e(z_t, t, c) - [ e*(z_t, t, n) - eta ( e*(z_t, t, c) - e*(z_t, t, n) ) ] ||^2
    L_anchor = mean over random states a of || e(z_t, t, a) - e*(z_t, t, a) ||^2
    L        = L_erase + lambda L_anchor

with the concept c, its anchor n (the empty prompt by default) and eta = ``negative_guidance``. Latent anchoring draws
Gaussian states a, keeps each with probability 1 - cos(a, c), and scales it to 0.8 to 1.2 times the length of c's.

Facilitated transport scales the membranes of each concept by its similarity gamma to the prompt, once per prompt, by
a gate (`efface.ops.editing.gate_settings.SimilaritySettings`): W' = W + sum_i gamma_i up_i down_i.

Differences: the latents come from the original's trajectories, pooled as for ESD; in the paper the model with
membranes samples before every step. The membrane of a concept is trained alone; several concepts give several edits.
The released code multiplies both factors by gamma and sums them before their product, (sum_i gamma_i up_i) (sum_i
gamma_i down_i), which squares gamma and mixes the concepts: preset ``released``. ``transport_floor`` > 0 is ours: the
states of unrelated prompts have a cosine far above 0, which then counts as none. ``num_templates`` and
``retain_weight`` are as for ESD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.core.tensors import TensorBlob
from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning
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
    name="spm",
    title="SPM",
    paper="Lyu et al.: One-Dimensional Adapter to Rule Them All: Concepts, Diffusion Models and Erasing Applications, "
    "CVPR 2024",
    arxiv="2312.16145",
    families=("sd1", "sd2", "sdxl", "sd3", "flux"),
    trains="membranes of rank 1 in the denoiser's attention blocks",
    needs_gradient=True,
    needs_images=False,
    reconstruction=False,
    summary="Trains membranes of rank 1 beside the denoiser, each as strong as the prompt is similar to the concept.",
    quantized=True,
)


@dataclass(frozen=True)
class Config:
    """SPM's hyper-parameters; the defaults are the paper's."""

    steps: int = field(default=3000, metadata={"help": "Number of training steps.", "range": "200 to 1000"})
    learning_rate: float = field(
        default=1e-4, metadata={"help": "Learning rate of the optimiser.", "range": "1e-6 to 1e-3"}
    )
    schedule: str = field(default="restarts", metadata={"help": "Learning-rate schedule: constant or cosine."})
    batch_size: int = field(default=1, metadata={"help": "Number of training samples per step."})
    rank: int = field(default=1, metadata={"help": "Rank of a membrane."})
    negative_guidance: float = field(
        default=1.0, metadata={"help": "Strength eta of the negative guidance.", "range": "0.5 to 3"}
    )
    anchor_weight: float = field(
        default=1000.0, metadata={"help": "Weight lambda of the latent anchoring.", "range": "0 to 1000"}
    )
    num_anchors: int = field(default=4, metadata={"help": "Number of random states of the latent anchoring."})
    transport: str = field(
        default="sum", metadata={"help": "Form of the facilitated transport: sum (paper) or product (released code)."}
    )
    transport_factor: float = field(default=1.0, metadata={"help": "Factor of the transport's strength."})
    transport_floor: float = field(
        default=0.0, metadata={"help": "Cosine that counts as no similarity.", "range": "0 to 0.95"}
    )
    guidance_scale: float = field(default=3.0, metadata={"help": "Classifier-free guidance scale of the sampler."})
    num_inference_steps: int = field(default=30, metadata={"help": "Number of steps of the sampler."})
    trajectories_per_prompt: int = field(default=8, metadata={"help": "Number of pooled trajectories per prompt."})
    num_templates: int = field(
        default=0, metadata={"help": "Number of templates from the library.", "range": "0 to 66"}
    )
    retain_weight: float = field(default=0.0, metadata={"help": "Weight of the retain loss.", "range": "0 to 20"})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "flux": {"guidance_scale": 3.5},
    "released": {"transport": "product"},
    "pocket": {
        "steps": 400,
        "learning_rate": 5e-3,
        "schedule": "cosine",
        "batch_size": 8,
        "negative_guidance": 2.0,
        "anchor_weight": 1.0,
        "num_inference_steps": 20,
        "trajectories_per_prompt": 1,
        "num_templates": 66,
        "transport_floor": 0.6,
        "retain_weight": 5.0,
    },
}


def spm(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Trains the membranes of each concept, and returns one gated edit for each."""
    edits: list[Edit] = []
    tensors: dict[str, TensorBlob] = {}
    for index, concept in enumerate(concepts):
        student = train_membranes(model, concept, config, run, f"train-{index}" if index else "train")
        settings = {"factor": config.transport_factor, "floor": config.transport_floor}
        gate = {"kind": "similarity", "phrases": list(concept.words), **settings}
        edit, own = student.module_edit(f"membrane{index}", {"transport": config.transport}, gate)
        edits.append(edit)
        tensors |= own
    return run.erasure(edits, tensors)


def train_membranes(model: EditableModel, concept: Concept, config: Config, run: Run, phase: str) -> InsertedStudent:
    """Trains the membranes of one concept."""
    trajectories = TrajectoryConfig(config.trajectories_per_prompt, config.num_inference_steps, config.guidance_scale)
    erase = ErasePrompts.from_concepts(model, [concept], config.num_templates, trajectories, run.seed_for(phase))
    retain_set = RetainSet.if_weighted(config.retain_weight, model, [concept], trajectories, run)
    student = InsertedStudent.membranes(
        model, "attn_blocks", config.rank, run.generator(f"{phase}-membranes"), Insertion("membrane")
    )
    anchor, generator = model.encode([concept.anchor]), run.generator(f"{phase}-batch")
    optimiser = torch.optim.AdamW(student.parameters(), lr=config.learning_rate)
    with student:
        for step in run.steps(config.steps, student.trainable_params, optimiser, phase=phase):
            set_learning_rate(optimiser, config.learning_rate, config.schedule, step.index, config.steps)
            batch = erase.pool.sample(config.batch_size, generator)
            target = _target(model, batch, anchor, config.negative_guidance)
            erase_loss = (student.predict(batch.z, batch.t, batch.cond).value - target).square().mean()
            loss, parts = erase_loss, {"erase": erase_loss.detach()}
            if config.anchor_weight:
                anchor_loss = _anchor_loss(student, batch, config.num_anchors, generator)
                loss, parts["anchor"] = loss + config.anchor_weight * anchor_loss, anchor_loss.detach()
            if retain_set is not None:
                retain_loss = retain_set.random_loss(student, config.batch_size, generator)
                loss, parts["retain"] = loss + config.retain_weight * retain_loss, retain_loss.detach()
            step.optimize(loss, parts)
    return student


@torch.no_grad()
def _target(model: EditableModel, batch: TrajectoryBatch, anchor: Conditioning, eta: float) -> Tensor:
    """Computes e*_n - eta (e*_c - e*_n)."""
    e_n = model.predict(batch.z, batch.t, anchor[batch.prompt_index * 0]).value
    return negative_guidance(e_n, batch.conditional, e_n, eta)


def _anchor_loss(student: InsertedStudent, batch: TrajectoryBatch, count: int, generator: torch.Generator) -> Tensor:
    """Computes the change of the predictions for random states, at the first latent of the batch."""
    cond = sample_anchor_states(batch.cond[:1], count, generator)
    z, t = batch.z[:1].expand(count, -1, -1, -1), batch.t[:1].expand(count)
    with torch.no_grad():
        original = student.model.predict(z, t, cond).value
    return (student.predict(z, t, cond).value - original).square().mean()


def sample_anchor_states(concept: Conditioning, count: int, generator: torch.Generator) -> Conditioning:
    """Draws states of latent anchoring: Gaussian, rarer the nearer to the concept's, of about their length.

    Args:
        concept: conditioning of the concept, one row.
        count: number of states.
        generator: on the CPU.
    """
    states = concept.states[0]
    accepted: list[Tensor] = []
    while len(accepted) < count:
        noise = torch.randn(states.shape, generator=generator).to(states)
        direction = noise / noise.norm()
        keep, scale = torch.rand(2, generator=generator).tolist()
        cosine = float((direction * states).sum() / states.norm())
        if keep < 1 - cosine:
            accepted.append(direction * states.norm() * (0.8 + 0.4 * scale))
    return Conditioning(torch.stack(accepted), concept.pooled.expand(count, -1))
