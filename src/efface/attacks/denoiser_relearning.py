"""Relearning of the denoiser: the erased model is trained for a few steps on images of the concept.

    minimise E || e(z_t, t, E(prompt)) - noise ||^2        over a LoRA, or over all weights of a role (rank=0)

The images come from the unedited model, or from ``image_folder``. How many images and steps bring the concept back is a
matter of ``num_images`` and ``steps``: a grid of `efface sweep` holds several of each. The attacker has the weights and
images.

Training teaches images that a model never knew. The share of images that show the concept is therefore reported as
``reproduction_rate``, and as a success only above that on a control model (``--control``).

LoRA: Hu et al. 2021, arXiv 2106.09685. Relearning after erasure is one of CopyrightMeter's attacks. The text encoder
is not trained, so that an erasure in it still acts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import torch

from efface.core.attack_set import AttackPrompt, AttackSet, AttackTask, Budget
from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.ops.adversarial.attack_context import AttackContext
from efface.ops.adversarial.attack_images import training_images
from efface.ops.adversarial.start_latents import concept_prompts
from efface.ops.training.latents import Latents
from efface.ops.training.lora import LoraAdapter
from efface.ops.training.student import Student

CARD = MethodCard(
    name="denoiser_relearning",
    title="Relearning of the denoiser",
    paper="Hu et al.: LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022",
    arxiv="2106.09685",
    families=("sd1", "sd2", "sdxl"),
    trains="",
    needs_gradient=True,
    needs_images=True,
    reconstruction=False,
    summary="Trains the attacked denoiser for a few steps on images of the concept.",
    needs_control=True,
)


@dataclass(frozen=True)
class Config:
    """Settings of the training."""

    num_images: int = field(
        default=20,
        metadata={"help": "Number of images of the concept; of a folder, the first by name.", "range": "1 to 100"},
    )
    steps: int = field(default=500, metadata={"help": "Number of training steps."})
    rank: int = field(default=4, metadata={"help": "Rank of the LoRA; 0 trains all weights of the role."})
    target_modules: str = field(default="attn_all", metadata={"help": "Parameter group to train."})
    learning_rate: float = field(default=1e-4, metadata={"help": "AdamW's learning rate."})
    batch_size: int = field(default=4, metadata={"help": "Number of noised images per step."})
    num_templates: int = field(default=24, metadata={"help": "Number of prompt templates from the library."})
    num_inference_steps: int = field(default=50, metadata={"help": "Number of sampling steps per image."})
    guidance_scale: float = field(default=7.5, metadata={"help": "Guidance scale of the images."})
    image_folder: str = field(default="", metadata={"help": "Folder of images of the concept; empty: generate them."})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {
        "num_images": 8, "steps": 60, "learning_rate": 1e-3, "batch_size": 8, "num_inference_steps": 20,
        "guidance_scale": 3.0,
    },
}  # fmt: skip


def denoiser_relearning(
    model: EditableModel, concept: Concept, tasks: Sequence[AttackTask], config: Config, run: AttackContext
) -> AttackSet:
    """Trains on images of the concept; the tasks' prompts stay as they are."""
    if min(config.num_images, config.steps, config.batch_size) < 1 or config.rank < 0:
        raise EffaceError("relearning needs at least 1 image, step and batch row, and a rank of 0 or more")
    prompts = concept_prompts(concept, config.num_templates)
    images = training_images(model, concept, prompts, config.num_images, config, run, "images")
    trained = _train(model, prompts, images, config, run)
    if isinstance(trained, LoraAdapter):
        edit, tensors = trained.to_edit("relearning")
        edits = [edit]
    else:
        edits, tensors = trained.replace_edits()
    rows = tuple(AttackPrompt(task.prompt, task.prompt, task.seed) for task in tasks)
    budget = Budget(config.steps, 0.0)
    found = AttackSet("denoiser_relearning", concept, rows, asdict(config), budget, seed=run.seed)
    return replace(found, edits=tuple(edits), tensors=tensors)


def _train(
    model: EditableModel, prompts: Sequence[str], images: Latents, config: Config, run: AttackContext
) -> LoraAdapter | Student:
    """Trains on noised images as in ordinary denoising training."""
    role = config.target_modules
    trained: LoraAdapter | Student
    trained = LoraAdapter(model, role, config.rank, run.generator("lora")) if config.rank else Student(model, role)
    optimiser = torch.optim.AdamW(trained.trainable_params.values(), lr=config.learning_rate)
    for step in run.steps(config.steps, trained.trainable_params, optimiser, phase="relearning"):
        z, t, noise, index = images.noised_batch(config.batch_size, run.generator("batch"))
        with torch.no_grad():
            cond = model.encode([prompts[i] for i in index.tolist()])
        step.optimize((trained.predict(z, t, cond).epsilon - noise).float().square().mean())
    return trained
