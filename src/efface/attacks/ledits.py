"""LEDITS++ (Brack et al., CVPR 2024, arXiv 2311.16711): edits an image of the concept with the erased model.

An image of the concept, by the unedited model or from ``image_folder``, is inverted to noise maps, and the erased model
samples from them with an edit such as "sunglasses":

    e  <-  e + s M1 M2 (e_edit - e_0)

M1 holds the pixels that attend to the edit, M2 those that it changes most. Does the concept survive the edit? The
erased model inverts and edits, as ACE (arXiv 2501.01633) evaluates erasures.

The noise maps lead back to any image, also one that a model never knew. The share of images that show the concept is
therefore reported as ``reproduction_rate``, and as a success only above that on a control model (``--control``).

Differences: a generated image is a latent of the sampler, which is never decoded; both passes are guided by the task's
prompt, where the official pipeline samples without it, so that an edit of strength 0 gives the image back; the sampler
is DDPM's instead of SDE-DPM-Solver++; M1 is not smoothed; each image has one edit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import torch

from efface.core.attack_set import AttackPrompt, AttackSet, AttackTask, Budget
from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.ops.adversarial.attack_context import AttackContext
from efface.ops.adversarial.attack_images import TaskImages
from efface.ops.adversarial.edit_guidance import edit_guidance
from efface.ops.adversarial.noise_maps import SourcePrompt, noise_maps
from efface.ops.adversarial.start_latents import batches_by_edit, start_rows

CARD = MethodCard(
    name="ledits",
    title="LEDITS++",
    paper="Brack, Friedrich, Kornmeier, Tsaban, Schramowski, Kersting, Passos: LEDITS++: Limitless Image Editing using "
    "Text-to-Image Models, CVPR 2024",
    arxiv="2311.16711",
    families=("sd1", "sd2", "sdxl"),
    trains="",
    needs_gradient=False,
    needs_images=True,
    reconstruction=False,
    summary="Edits images of the concept with the attacked model, which inverts them to noise maps.",
    needs_control=True,
)


@dataclass(frozen=True)
class Config:
    """Settings of the edit; the defaults are ACE's, but for the number of steps."""

    edits: tuple[str, ...] = field(
        default=("sunglasses", "a hat", "a forest", "snow"),
        metadata={"help": "Edits, which the images receive in turn."},
    )
    edit_scale: float = field(default=10.0, metadata={"help": "Strength s of the edit."})
    edit_threshold: float = field(
        default=0.9, metadata={"help": "Share of the pixels outside of each mask.", "range": "0 to below 1"}
    )
    skip: float = field(
        default=0.1, metadata={"help": "Share of the noisiest steps that are skipped.", "range": "0 to below 1"}
    )
    source_guidance_scale: float = field(
        default=1.5, metadata={"help": "Guidance scale of the prompt in inversion and edit."}
    )
    num_inference_steps: int = field(
        default=50, metadata={"help": "Number of sampling steps; the benchmark's sampler must have as many."}
    )
    guidance_scale: float = field(default=7.5, metadata={"help": "Guidance scale of the images to edit."})
    image_folder: str = field(default="", metadata={"help": "Folder of images of the concept; empty: generate them."})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {
        "edits": ("a snowy field", "a forest", "the seaside", "a city at night"), "num_inference_steps": 20,
        "guidance_scale": 3.0,
    },
}  # fmt: skip


@torch.no_grad()
def ledits(
    model: EditableModel, concept: Concept, tasks: Sequence[AttackTask], config: Config, run: AttackContext
) -> AttackSet:
    """Edits one image of the concept for every task."""
    if not (0 <= config.edit_threshold < 1 and 0 <= config.skip < 1):
        raise EffaceError(
            f"edit_threshold and skip must be from 0 to below 1, not {config.edit_threshold} and {config.skip}"
        )
    steps, rows = config.num_inference_steps, dict[int, AttackPrompt]()
    task_images = TaskImages(model, concept, config, run)
    for edit, indices in batches_by_edit(model, tasks, config.edits, run, "editing images"):
        batch = [tasks[i] for i in indices]
        texts, seeds = [task.prompt for task in batch], [task.seed for task in batch]
        source = SourcePrompt(texts, seeds, config.source_guidance_scale)
        images = task_images.of(batch, indices)
        maps = noise_maps(model, images, source, steps, run.generator_for(batch))
        with edit_guidance(model, edit, config.edit_scale, config.edit_threshold):
            z = maps.sample(model, source, int(config.skip * steps))
        shown = [f"{text}, {edit}" for text in texts]
        rows |= zip(indices, start_rows(batch, shown, z, steps), strict=True)
    ordered = tuple(rows[i] for i in range(len(tasks)))
    return AttackSet("ledits", concept, ordered, asdict(config), Budget(steps, 0.0), seed=run.seed)
