"""Co-Erasing: text and images of the concept together (Li et al., ICML 2025, arXiv 2505.11131).

A word describes a concept incompletely. Co-Erasing first erases by text, as ESD, and then continues from the
text-erased model e' with images of the concept as prompts. The denoiser reads their tokens I beside the states T:

    I  <- softmax( I T^T / sqrt(d) ) T                                            text-guided refinement
    L  =  || e(z_t, t, T, I) - [ e'(z_t, t, "") - eta ( e'(z_t, t, T, I) - e'(z_t, t, "") ) ] ||^2

The refinement leaves of an image what the text speaks of. eta = ``negative_guidance``. z_t is blurred (``blur_size``).

The images come from ``image_folder``, for several concepts from a folder of each one's name in it; without a folder the
original generates ``num_images`` of each concept. ``image_adapter`` reads them: the folder of an IP-Adapter for the
model (arXiv 2308.06721), or ``pocket``, a projection of pocket's own CLIP tower. The erased model needs neither.

Differences: z_t are points of pooled trajectories of the original. The published code walks its sampler backwards, so
that its z_t is noise at every t, and reads the last four text tokens of passes without images as image tokens; there is
no preset ``released``. Subtracting images without the concept is left out. ``erase_from``, ``num_templates`` and
``retain_weight`` are ESD's, the first in the text's part alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.detectors.zero_shot import load_scorer
from efface.models.editable import EditableModel
from efface.models.image_prompt import ImagePrompt, image_prompt
from efface.ops.retention.retain_set import RetainSet
from efface.ops.targets import negative_guidance
from efface.ops.text.erase_prompts import ErasePrompts
from efface.ops.training.blur import gaussian_blur
from efface.ops.training.image_folder import concept_folders, read_images
from efface.ops.training.image_tokens import draw_tokens, refine_tokens
from efface.ops.training.run import Run
from efface.ops.training.schedule import set_learning_rate
from efface.ops.training.student import Student
from efface.ops.training.trajectory_config import TrajectoryConfig

CARD = MethodCard(
    name="co_erasing",
    title="Co-Erasing",
    paper="Li, Xu, Bao, Yang, Cao, Huang: One Image is Worth a Thousand Words: A Usability Preservable Text-Image "
    "Collaborative Erasing Framework, ICML 2025",
    arxiv="2505.11131",
    families=("sd1", "sd2", "sdxl"),
    trains="the UNet without its cross-attention",
    needs_gradient=True,
    needs_images=True,
    reconstruction=False,
    summary="Erases by text, then by images of the concept as prompts, refined by the text.",
)


@dataclass(frozen=True)
class Config:
    """Co-Erasing's hyper-parameters; the defaults are the paper's."""

    target_modules: str = field(
        default="non_cross",
        metadata={"help": "Parameter group to change.", "range": "non_cross, unet_linear, attn_all"},
    )
    image_adapter: str = field(
        default="", metadata={"help": "What reads images: folder of an IP-Adapter, or pocket for pocket's own."}
    )
    warmup_steps: int = field(default=1000, metadata={"help": "Number of first steps by text alone."})
    steps: int = field(default=1000, metadata={"help": "Number of training steps.", "range": "1000 to 1500"})
    learning_rate: float = field(default=1e-5, metadata={"help": "Learning rate of the optimiser."})
    schedule: str = field(default="constant", metadata={"help": "Learning-rate schedule: constant or cosine."})
    batch_size: int = field(default=1, metadata={"help": "Number of training samples per step."})
    image_folder: str = field(default="", metadata={"help": "Folder of images of the concept; empty: generate them."})
    num_images: int = field(
        default=100, metadata={"help": "Number of generated images of each concept.", "range": "100 to 200"}
    )
    refine: bool = field(default=True, metadata={"help": "Refine the image tokens by the text."})
    blur_size: int = field(default=3, metadata={"help": "Side of the blur of latents; 0: none.", "range": "3 to 5"})
    negative_guidance: float = field(default=1.0, metadata={"help": "Strength eta of the negative guidance."})
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
    "pocket": {
        "target_modules": "attn_all",
        "image_adapter": "pocket",
        "learning_rate": 4e-4,
        "schedule": "cosine",
        "warmup_steps": 200,
        "steps": 150,
        "batch_size": 8,
        "num_images": 48,
        "blur_size": 0,
        "num_inference_steps": 20,
        "trajectories_per_prompt": 1,
        "negative_guidance": 3.0,
        "erase_from": True,
        "num_templates": 66,
        "retain_weight": 20.0,
    },
}


def co_erasing(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Erases the concepts by text, then by images; several concepts share the steps evenly."""
    images = _concept_images(model, concepts, config, run)
    with _reader(model, config) as reader:  # before the training, so that unfit weights are refused early
        tokens = [reader.tokens(group) for group in images]
    trajectories = TrajectoryConfig(config.trajectories_per_prompt, config.num_inference_steps, config.guidance_scale)
    erase = ErasePrompts.from_concepts(model, concepts, config.num_templates, trajectories, run.seed_for("pool"))
    retain_set = RetainSet.if_weighted(config.retain_weight, model, concepts, trajectories, run)
    owners = {word: index for index, concept in enumerate(concepts) for word in concept.words}
    by_prompt = [tokens[owners[phrase]] for phrase in erase.phrases]
    student = Student(model, config.target_modules)
    if config.warmup_steps:
        _train_by_text(student, erase, retain_set, config, run)
    with _reader(model, config) as reader:
        _train_by_images(student, erase, retain_set, reader, by_prompt, config, run)
    return run.erasure(*student.replace_edits())


def _reader(model: EditableModel, config: Config) -> AbstractContextManager[ImagePrompt]:
    """Makes the model read images while the context lasts."""
    return image_prompt(model, config.image_adapter, partial(load_scorer, "pocket-clip", model.device))


def _train_by_text(
    student: Student, erase: ErasePrompts, retain_set: RetainSet | None, config: Config, run: Run
) -> None:
    """Trains as ESD."""
    optimiser = torch.optim.Adam(student.parameters(), lr=config.learning_rate)
    for step in run.steps(config.warmup_steps, student.trainable_params, optimiser, phase="warm-up"):
        set_learning_rate(optimiser, config.learning_rate, config.schedule, step.index, config.warmup_steps)
        batch = erase.pool.sample(config.batch_size, run.generator("batch"))
        target = erase.negative_target(batch, config.negative_guidance, erase_from=config.erase_from)
        loss = (student.predict(batch.z, batch.t, batch.cond).value - target).square().mean()
        step.optimize(*_with_retention(loss, student, retain_set, config, run))


def _train_by_images(
    student: Student, erase: ErasePrompts, retain_set: RetainSet | None, reader: ImagePrompt, tokens: list[Tensor],
    config: Config, run: Run,
) -> None:  # fmt: skip
    """Continues with images; ``tokens`` are those of each prompt's concept, ``(N, n, D)``."""
    teacher = {name: tensor.detach().clone() for name, tensor in student.params().items()}
    predict = partial(student.model.predict, params=teacher)
    empty = student.model.unconditional(config.batch_size)
    optimiser = torch.optim.Adam(student.parameters(), lr=config.learning_rate)
    for step in run.steps(config.steps, student.trainable_params, optimiser):
        set_learning_rate(optimiser, config.learning_rate, config.schedule, step.index, config.steps)
        batch = erase.pool.sample(config.batch_size, run.generator("batch"))
        shown = draw_tokens([tokens[prompt] for prompt in batch.prompt_index.tolist()], run.generator("image"))
        shown = refine_tokens(shown, batch.cond.states) if config.refine else shown
        z = gaussian_blur(batch.z, config.blur_size)
        with torch.no_grad():
            e_0 = predict(z, batch.t, empty).value
            e_c = reader.predict(predict, z, batch.t, batch.cond, shown).value
        target = negative_guidance(e_0, e_c, e_0, config.negative_guidance)
        loss = (reader.predict(student.predict, z, batch.t, batch.cond, shown).value - target).square().mean()
        step.optimize(*_with_retention(loss, student, retain_set, config, run))


def _with_retention(
    loss: Tensor, student: Student, retain_set: RetainSet | None, config: Config, run: Run
) -> tuple[Tensor, dict[str, Tensor]]:
    """Adds the retain loss; returns the sum and its parts."""
    losses = {"erase": loss.detach()}
    if retain_set is not None:
        retain_loss = retain_set.random_loss(student, config.batch_size, run.generator("retain"))
        losses["retain"] = retain_loss.detach()
        loss = loss + config.retain_weight * retain_loss
    return loss, losses


def _concept_images(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> list[Tensor]:
    """Returns the images of each concept, ``(N, 3, H, W)`` in [0, 1]."""
    if config.image_folder:
        folders = concept_folders(concepts, config.image_folder)
        return [torch.stack(read_images(folder, model.image_size)) for folder in folders]
    groups = []
    for concept in concepts:
        prompts, first = concept.prompts or concept.render_prompts(), run.seed_for("images", concept.name)
        shown = [prompts[i % len(prompts)] for i in range(config.num_images)]
        seeds, steps = [first + i for i in range(config.num_images)], config.num_inference_steps
        groups.append(model.sample(shown, seeds=seeds, num_inference_steps=steps, guidance_scale=config.guidance_scale))
    return groups
