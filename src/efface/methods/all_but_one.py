"""All but One: surgical concept erasing (Hong, Lee, Woo, AAAI 2024, arXiv 2312.12807); a reconstruction.

No code is public, and we know the paper's idea, not its equations: change the guidance term G(c) = e(c) - e("") of the
concept c alone, hold the unconditional prediction e(""), and let the user name an alternative a. We read it as

    L = || G(z_t, t, c) - [ w G*(z_t, t, a) - eta G*(z_t, t, c) ] ||^2  +  lambda || e(z_t, t, "") - e*(z_t, t, "") ||^2

with the original e*, its guidance term G*, and z_t from a guided trajectory of the original for c: its own images. Both
of the student's predictions get a gradient. w = ``anchor_weight``, eta = ``negative_guidance``, lambda =
``uncond_weight``. Anchor matching (Concept Ablation) leaves the unconditional prediction free, although every prompt
shares its first token: sampling subtracts it, so that its drift damages all images.

The alternative is the concept's anchor. Without one, no target is needed: a is the prompt without the concept ("a
sketch of the woods"), for the word alone the empty prompt, whose guidance is 0. ``negative_guidance`` > 0 also pushes
away from c, as ESD does. ``num_templates`` sets the number of prompts besides the concept's own, and ``retain_weight``
the weight of AdvUnlearn's loss over retain prompts (arXiv 2405.15234), neither of which the paper has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning
from efface.ops.retention.retain_set import RetainSet
from efface.ops.text.anchor_prompts import anchor_pairs
from efface.ops.training.run import Run
from efface.ops.training.schedule import set_learning_rate
from efface.ops.training.student import Student
from efface.ops.training.trajectory_config import TrajectoryConfig

CARD = MethodCard(
    name="all_but_one",
    title="All but One",
    paper="Hong, Lee, Woo: All but One: Surgical Concept Erasing with Model Preservation in Text-to-Image Diffusion "
    "Models, AAAI 2024",
    arxiv="2312.12807",
    families=("sd1", "sd2", "sdxl"),
    trains="the cross-attention",
    needs_gradient=True,
    needs_images=False,
    reconstruction=True,
    summary="Fine-tunes the guidance towards the concept alone and holds the unconditional prediction.",
)


@dataclass(frozen=True)
class Config:
    """All but One's hyper-parameters; the paper's are unknown, and the training is ESD's."""

    target_modules: str = field(
        default="cross_all",
        metadata={"help": "Parameter group to change.", "range": "cross_all, cross_kv, attn_all, unet_linear"},
    )
    steps: int = field(default=1000, metadata={"help": "Number of training steps.", "range": "200 to 1000"})
    learning_rate: float = field(
        default=1e-5, metadata={"help": "Learning rate of the optimiser.", "range": "1e-6 to 1e-3"}
    )
    schedule: str = field(default="constant", metadata={"help": "Learning-rate schedule: constant or cosine."})
    batch_size: int = field(default=1, metadata={"help": "Number of training samples per step."})
    anchor_weight: float = field(
        default=1.0, metadata={"help": "Weight w of the alternative's guidance.", "range": "0 to 2"}
    )
    negative_guidance: float = field(
        default=0.0, metadata={"help": "Strength eta of the negative guidance.", "range": "0 to 3"}
    )
    uncond_weight: float = field(
        default=1.0, metadata={"help": "Weight lambda of the unconditional prediction's drift.", "range": "1 to 20"}
    )
    guidance_scale: float = field(default=3.0, metadata={"help": "Classifier-free guidance scale of the sampler."})
    num_inference_steps: int = field(default=50, metadata={"help": "Number of steps of the sampler."})
    trajectories_per_prompt: int = field(default=8, metadata={"help": "Number of pooled trajectories per prompt."})
    num_templates: int = field(
        default=0, metadata={"help": "Number of templates from the library.", "range": "0 to 66"}
    )
    retain_weight: float = field(default=0.0, metadata={"help": "Weight of the retain loss.", "range": "0 to 20"})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {
        "target_modules": "attn_all",
        "learning_rate": 4e-4,
        "schedule": "cosine",
        "steps": 300,
        "batch_size": 8,
        "num_inference_steps": 20,
        "trajectories_per_prompt": 1,
        "num_templates": 66,
        "retain_weight": 10.0,
    },
}


def all_but_one(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Replaces the guidance towards each concept; several concepts share the steps evenly."""
    pairs = {
        prompt: anchor for concept in concepts for prompt, anchor in anchor_pairs(concept, config.num_templates).items()
    }
    trajectories = TrajectoryConfig(config.trajectories_per_prompt, config.num_inference_steps, config.guidance_scale)
    pool = trajectories.build_pool(model, tuple(pairs), run.seed_for("pool"))
    with torch.no_grad():
        anchors = [model.encode([anchor]) if anchor else model.unconditional(1) for anchor in pairs.values()]
        anchor_cond, empty_cond = Conditioning.cat(anchors), model.unconditional(config.batch_size)
    student = Student(model, config.target_modules)
    retain_set = RetainSet.if_weighted(config.retain_weight, model, concepts, trajectories, run)
    optimiser = torch.optim.Adam(student.parameters(), lr=config.learning_rate)
    for step in run.steps(config.steps, student.trainable_params, optimiser):
        set_learning_rate(optimiser, config.learning_rate, config.schedule, step.index, config.steps)
        batch = pool.sample(config.batch_size, run.generator("batch"))
        e_0 = batch.unconditional
        with torch.no_grad():
            e_a = model.predict(batch.z, batch.t, anchor_cond[batch.prompt_index]).value
        guidance = config.anchor_weight * (e_a - e_0) - config.negative_guidance * (batch.conditional - e_0)
        both = student.predict(
            batch.z.repeat(2, 1, 1, 1), batch.t.repeat(2), Conditioning.cat([batch.cond, empty_cond])
        )
        student_c, student_0 = both.value.chunk(2)
        losses = {
            "guidance": (student_c - student_0 - guidance).square().mean(),
            "drift": (student_0 - e_0).square().mean(),
        }
        loss = losses["guidance"] + config.uncond_weight * losses["drift"]
        if retain_set is not None:
            losses["retain"] = retain_set.random_loss(student, config.batch_size, run.generator("retain"))
            loss = loss + config.retain_weight * losses["retain"]
        step.optimize(loss, {name: part.detach() for name, part in losses.items()})
    return run.erasure(*student.replace_edits())
