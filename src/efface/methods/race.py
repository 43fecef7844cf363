"""R.A.C.E.: robust adversarial concept erasure (Kim, Min, Yang, ECCV 2024, arXiv 2405.16341).

ESD, hardened: every step first attacks the states C of the prompt at its one timestep. The attack searches states with
which the student e still predicts the noise n_0 that the trajectory to z_t started from, and is then trained away:

    C' <- C + U(-eps, eps)
    J times:  C' <- clip( C' - alpha sign d/dC' || n_0 - e(z_t, t, C') ||^2 )      alpha = eps / 4
    L  =  || e(z_t, t, C') - [ e*(z_t, t, "") - eta ( e*(z_t, t, c) - e*(z_t, t, "") ) ] ||^2
          + lambda_1 sum over tensors of mean |theta - theta_ESD|

``clip`` keeps C' within eps of C in every entry, and within C's range. eta = ``negative_guidance``, eps =
``attack_radius``, J = ``attack_steps``, lambda_1 = ``l1_weight`` (the authors' option, off by default). e* is the
original model. The paper starts from a finished ESD model, theta_ESD; here the first loop makes it, ``warmup_steps``
steps of ESD.

Differences: as in ESD, the original samples the trajectories, and their points are pooled; in the paper the student
samples before every step, and its latent is less noisy than the timestep says. SDXL's pooled state is not attacked. The
published code ignores its option for the number of attack steps, which is always 10, so that there is no preset
``released``. ``erase_from``, ``num_templates`` and ``retain_weight`` are ESD's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning
from efface.ops.adversarial.conditioning_attack import ConditioningAttack
from efface.ops.retention.retain_set import RetainSet
from efface.ops.text.erase_prompts import ErasePrompts
from efface.ops.training.run import Run
from efface.ops.training.schedule import set_learning_rate
from efface.ops.training.student import Student
from efface.ops.training.trajectory_config import TrajectoryConfig
from efface.ops.training.trajectory_pool import TrajectoryBatch

CARD = MethodCard(
    name="race",
    title="R.A.C.E.",
    paper="Kim, Min, Yang: R.A.C.E.: Robust Adversarial Concept Erasure for Secure Text-to-Image Diffusion Model, "
    "ECCV 2024",
    arxiv="2405.16341",
    families=("sd1", "sd2", "sdxl"),
    trains="the cross-attention or the rest of the UNet",
    needs_gradient=True,
    needs_images=False,
    reconstruction=False,
    summary="Fine-tunes an ESD model against an attack on the text's states at each step's timestep.",
)


@dataclass(frozen=True)
class Config:
    """R.A.C.E.'s hyper-parameters; the defaults are the paper's."""

    target_modules: str = field(
        default="cross_all",
        metadata={"help": "Parameter group to change.", "range": "cross_all, cross_kv, non_cross, unet_linear"},
    )
    warmup_steps: int = field(default=1000, metadata={"help": "Number of first steps without attack."})
    steps: int = field(default=1000, metadata={"help": "Number of training steps.", "range": "200 to 1000"})
    learning_rate: float = field(
        default=1e-5, metadata={"help": "Learning rate of the optimiser.", "range": "1e-6 to 1e-3"}
    )
    schedule: str = field(default="constant", metadata={"help": "Learning-rate schedule: constant or cosine."})
    batch_size: int = field(default=1, metadata={"help": "Number of training samples per step."})
    attack_radius: float = field(
        default=0.1, metadata={"help": "Largest change eps of an entry of the states.", "range": "0.05 to 1"}
    )
    attack_steps: int = field(default=10, metadata={"help": "Number of attack steps per training step."})
    negative_guidance: float = field(
        default=1.0, metadata={"help": "Strength eta of the negative guidance.", "range": "0.5 to 3"}
    )
    l1_weight: float = field(default=0.0, metadata={"help": "Weight of the weights' change since the warm-up."})
    guidance_scale: float = field(default=3.0, metadata={"help": "Classifier-free guidance scale of the sampler."})
    num_inference_steps: int = field(default=50, metadata={"help": "Number of steps of the sampler."})
    trajectories_per_prompt: int = field(default=8, metadata={"help": "Number of pooled trajectories per prompt."})
    erase_from: bool = field(default=False, metadata={"help": "Keep the rest of the prompt: start from e*(f)."})
    num_templates: int = field(
        default=0, metadata={"help": "Number of templates from the library.", "range": "0 to 66"}
    )
    retain_weight: float = field(default=0.0, metadata={"help": "Weight of the retain loss.", "range": "0 to 20"})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "lasso": {"l1_weight": 0.1},
    "pocket": {
        "target_modules": "attn_all",
        "learning_rate": 4e-4,
        "schedule": "cosine",
        "warmup_steps": 300,
        "steps": 100,
        "batch_size": 8,
        "attack_radius": 0.3,
        "attack_steps": 4,
        "num_inference_steps": 20,
        "trajectories_per_prompt": 1,
        "negative_guidance": 3.0,
        "erase_from": True,
        "num_templates": 66,
        "retain_weight": 20.0,
    },
}


def race(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Trains an ESD model, then hardens it by attacks; several concepts share the steps evenly."""
    attack = ConditioningAttack(config.attack_radius, config.attack_steps)
    trajectories = TrajectoryConfig(config.trajectories_per_prompt, config.num_inference_steps, config.guidance_scale)
    erase = ErasePrompts.from_concepts(model, concepts, config.num_templates, trajectories, run.seed_for("pool"))
    retain_set = RetainSet.if_weighted(config.retain_weight, model, concepts, trajectories, run)
    student = Student(model, config.target_modules)
    if config.warmup_steps:
        _train(student, erase, retain_set, None, config, run)
    _train(student, erase, retain_set, attack, config, run)
    return run.erasure(*student.replace_edits())


def _train(
    student: Student,
    erase: ErasePrompts,
    retain_set: RetainSet | None,
    attack: ConditioningAttack | None,
    config: Config,
    run: Run,
) -> None:
    """Trains on the prompts' own states, or on the states that the attack finds."""
    phase, num_steps = ("train", config.steps) if attack else ("warm-up", config.warmup_steps)
    start = {name: tensor.detach().clone() for name, tensor in student.trainable_params.items()}
    optimiser = torch.optim.Adam(student.parameters(), lr=config.learning_rate)
    for step in run.steps(num_steps, student.trainable_params, optimiser, phase=phase):
        set_learning_rate(optimiser, config.learning_rate, config.schedule, step.index, num_steps)
        batch = erase.pool.sample(config.batch_size, run.generator("batch"))
        target = erase.negative_target(batch, config.negative_guidance, erase_from=config.erase_from)
        cond = _attacked_cond(student, erase, batch, attack, run) if attack else batch.cond
        loss = (student.predict(batch.z, batch.t, cond).value - target).square().mean()
        losses = {"erase": loss.detach()}
        if attack and config.l1_weight:
            change = [(tensor - start[name]).abs().mean() for name, tensor in student.trainable_params.items()]
            losses["change"] = torch.stack(change).sum()
            loss = loss + config.l1_weight * losses["change"]
        if retain_set is not None:
            losses["retain"] = retain_set.random_loss(student, config.batch_size, run.generator("retain"))
            loss = loss + config.retain_weight * losses["retain"]
        step.optimize(loss, {name: part.detach() for name, part in losses.items()})


def _attacked_cond(
    student: Student, erase: ErasePrompts, batch: TrajectoryBatch, attack: ConditioningAttack, run: Run
) -> Conditioning:
    """Searches states with which the student predicts the noise that each trajectory started from."""
    trajectories = batch.trajectory_index.tolist()
    start_noise = torch.cat([erase.pool.full_trajectory(i).z[:1] for i in trajectories])
    params = {name: tensor.detach() for name, tensor in student.params().items()}

    def distance(cond: Conditioning) -> Tensor:
        predicted = student.model.predict(batch.z, batch.t, cond, params=params).epsilon
        return (predicted - start_noise).square().mean((1, 2, 3)).sum()

    return attack.search(distance, batch.cond, run.generator("attack"))
