"""ESD: erased Stable Diffusion (Gandikota et al., ICCV 2023, arXiv 2303.07345).

The student e learns to predict, for the concept's prompt c, what the original e* predicts when guided *away* from it:

    L = || e(z_t, t, c) - [ e*(z_t, t, "") - eta ( e*(z_t, t, c) - e*(z_t, t, "") ) ] ||^2

with z_t from a guided trajectory for c and eta = ``negative_guidance``. The paper's esd-x trains the cross-attention
(``cross_all``; esd-x-strict: ``cross_kv``), for concepts that prompts name; its esd-u trains all other parameters
(``non_cross``), for concepts that images show whatever the prompt. ``text_all`` trains the text encoder with the same
loss. ``erase_from``, the authors' later option, removes c from a longer prompt f and keeps the rest of f:

    L = || e(z_t, t, f) - [ e*(z_t, t, f) - (eta + 1) ( e*(z_t, t, c) - e*(z_t, t, "") ) ] ||^2

which is the same loss if f is c. ``num_templates`` sets the number of such prompts: a small model that forgets the
concept in one template does not forget it in others.

Differences: the trajectories are the original's, pooled, as in the authors' later code. Every point of one is then an
exact training tuple whose targets classifier-free guidance has computed already. The paper samples with the student
before every step; ``refresh_every`` > 0 replaces one trajectory by the student's after so many steps. The paper has no
retain loss. ``retain_weight`` > 0 adds that of AdvUnlearn (arXiv 2405.15234), || e(z'_t, t, r) - e*(z'_t, t, r) ||^2
over retain prompts r, because a small model forgets more besides the concept than a large one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.ops.retention.retain_set import RetainSet
from efface.ops.text.erase_prompts import ErasePrompts
from efface.ops.training.run import Run
from efface.ops.training.schedule import set_learning_rate
from efface.ops.training.student import Student
from efface.ops.training.trajectory_config import TrajectoryConfig

CARD = MethodCard(
    name="esd",
    title="ESD",
    paper="Gandikota, Materzynska, Fiotto-Kaufman, Bau: Erasing Concepts from Diffusion Models, ICCV 2023",
    arxiv="2303.07345",
    families=("sd1", "sd2", "sdxl", "sd3", "flux", "sana"),
    trains="the cross-attention, the rest of the UNet, or the text encoder",
    needs_gradient=True,
    needs_images=False,
    reconstruction=False,
    summary="Fine-tunes the model towards its own prediction guided away from the concept.",
)


@dataclass(frozen=True)
class Config:
    """ESD's hyper-parameters; the defaults are the paper's."""

    target_modules: str = field(
        default="cross_all",
        metadata={
            "help": "Parameter group to change.",
            "range": "cross_all, cross_kv, non_cross, unet_linear, text_all",
        },
    )
    steps: int = field(default=1000, metadata={"help": "Number of training steps.", "range": "200 to 1000"})
    learning_rate: float = field(
        default=1e-5, metadata={"help": "Learning rate of the optimiser.", "range": "1e-6 to 1e-3"}
    )
    schedule: str = field(default="constant", metadata={"help": "Learning-rate schedule: constant or cosine."})
    batch_size: int = field(default=1, metadata={"help": "Number of training samples per step."})
    negative_guidance: float = field(
        default=1.0, metadata={"help": "Strength eta of the negative guidance.", "range": "0.5 to 3"}
    )
    guidance_scale: float = field(default=3.0, metadata={"help": "Classifier-free guidance scale of the sampler."})
    num_inference_steps: int = field(default=50, metadata={"help": "Number of steps of the sampler."})
    trajectories_per_prompt: int = field(default=8, metadata={"help": "Number of pooled trajectories per prompt."})
    refresh_every: int = field(
        default=0, metadata={"help": "Steps after which the student resamples one trajectory; 0 disables it."}
    )
    erase_from: bool = field(default=False, metadata={"help": "Keep the rest of the prompt: start from e*(f)."})
    num_templates: int = field(
        default=0, metadata={"help": "Number of templates from the library.", "range": "0 to 66"}
    )
    retain_weight: float = field(default=0.0, metadata={"help": "Weight of the retain loss.", "range": "0 to 20"})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "sd3": {"target_modules": "text_stream"},
    "flux": {"target_modules": "text_stream", "guidance_scale": 3.5},
    "sana": {"target_modules": "attn_all"},
    "released": {"learning_rate": 5e-5, "steps": 200},
    "pocket-flow": {
        "target_modules": "attn_all",
        "learning_rate": 4e-4,
        "schedule": "cosine",
        "steps": 150,
        "batch_size": 8,
        "num_inference_steps": 20,
        "trajectories_per_prompt": 1,
        "guidance_scale": 3.5,
        "negative_guidance": 3.0,
        "erase_from": True,
        "num_templates": 30,
        "retain_weight": 20.0,
    },
    "pocket": {
        "target_modules": "attn_all",
        "learning_rate": 4e-4,
        "schedule": "cosine",
        "steps": 500,
        "batch_size": 8,
        "num_inference_steps": 20,
        "trajectories_per_prompt": 1,
        "negative_guidance": 3.0,
        "erase_from": True,
        "num_templates": 66,
        "retain_weight": 20.0,
    },
}


def esd(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Erases the concepts by negative guidance; several concepts share the steps evenly."""
    trajectories = TrajectoryConfig(config.trajectories_per_prompt, config.num_inference_steps, config.guidance_scale)
    erase = ErasePrompts.from_concepts(model, concepts, config.num_templates, trajectories, run.seed_for("pool"))
    student = Student(model, config.target_modules)
    retain_set = RetainSet.if_weighted(config.retain_weight, model, concepts, trajectories, run)
    optimiser = torch.optim.Adam(student.parameters(), lr=config.learning_rate)
    extra_state = {"pool": erase.pool} if config.refresh_every else None
    for step in run.steps(config.steps, student.trainable_params, optimiser, extra_state=extra_state):
        set_learning_rate(optimiser, config.learning_rate, config.schedule, step.index, config.steps)
        if config.refresh_every and step.index and step.index % config.refresh_every == 0:
            erase.pool.refresh(1, params=None if student.trains_text else student.params())
        batch = erase.pool.sample(config.batch_size, run.generator("batch"))
        target = erase.negative_target(batch, config.negative_guidance, erase_from=config.erase_from)
        cond = student.encode(erase.prompts)[batch.prompt_index] if student.trains_text else batch.cond
        loss = (student.predict(batch.z, batch.t, cond).value - target).square().mean()
        losses = {"erase": loss.detach()}
        if retain_set is not None:
            retain_loss = retain_set.random_loss(student, config.batch_size, run.generator("retain"))
            loss = loss + config.retain_weight * retain_loss
            losses["retain"] = retain_loss.detach()
        step.optimize(loss, losses)
    return run.erasure(*student.replace_edits())
