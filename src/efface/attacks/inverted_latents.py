"""Inverted latents (M-ErasureBench, arXiv 2512.22877): the noise from which the model draws an image of the concept.

An image x of the concept, by the unedited model or from ``image_folder``, is inverted to noise with DDIM (on flow
models with Euler's sampler), and the erased model samples from that noise. In the setting ``white_box`` the erased
model inverts, in ``black_box`` the unedited one. With ``prompt=empty`` nothing is said of the concept; with
``prompt=own`` inversion and sampling read the task's prompt.

DDIM inversion reconstructs images that a model never knew. The share of images that show the concept is therefore
reported as ``reproduction_rate``, and as a success only above that on a control model (``--control``). Without a prompt
the reconstruction is nearly exact, on the control, too. The preset ``pocket`` therefore reads the task's prompt, under
guidance: such noise becomes the concept only in a model that still draws it.

Read from the paper's abstract, whose latents have no prompt. Differences: a generated x is a latent of the sampler,
which is never decoded, and has another seed than the task; each step of the inversion iterates, so that sampling
without guidance leads back to x.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field

import torch

from efface.core.attack_set import AttackPrompt, AttackSet, AttackTask, Budget
from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.ops.adversarial.attack_context import AttackContext
from efface.ops.adversarial.attack_images import TaskImages
from efface.ops.adversarial.start_latents import index_batches, start_rows
from efface.ops.latent_inversion import invert

CARD = MethodCard(
    name="inverted_latents",
    title="Inverted latents",
    paper="M-ErasureBench: A Comprehensive Multimodal Evaluation Benchmark for Concept Erasure in Diffusion Models, "
    "WACV 2026",
    arxiv="2512.22877",
    families=("sd1", "sd2", "sdxl", "sd3", "flux"),
    trains="",
    needs_gradient=False,
    needs_images=True,
    reconstruction=True,
    summary="Samples from the noise that DDIM inversion finds for images of the concept.",
    needs_control=True,
)


@dataclass(frozen=True)
class Config:
    """Settings of the inversion."""

    setting: str = field(
        default="white_box",
        metadata={"help": "white_box (inverted by the attacked model) or black_box (by the unedited model)."},
    )
    prompt: str = field(default="empty", metadata={"help": "empty (no prompt) or own (the task's prompt)."})
    num_inference_steps: int = field(
        default=50, metadata={"help": "Number of sampling steps; the benchmark's sampler must have as many."}
    )
    guidance_scale: float = field(default=7.5, metadata={"help": "Guidance scale of the inverted images."})
    iterations: int = field(default=3, metadata={"help": "Number of predictions for each step of the inversion."})
    image_folder: str = field(default="", metadata={"help": "Folder of images of the concept; empty: generate them."})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "flux": {"guidance_scale": 3.5},
    "pocket-flow": {"num_inference_steps": 20, "guidance_scale": 3.5},
    "pocket": {"prompt": "own", "num_inference_steps": 20, "guidance_scale": 3.0},
}


@torch.no_grad()
def inverted_latents(
    model: EditableModel, concept: Concept, tasks: Sequence[AttackTask], config: Config, run: AttackContext
) -> AttackSet:
    """Inverts one image of the concept for every task."""
    if config.setting not in ("white_box", "black_box") or config.prompt not in ("empty", "own"):
        raise EffaceError("inverted_latents needs a setting of white_box or black_box, and a prompt of empty or own")
    if config.iterations < 1:
        raise EffaceError(f"the inversion needs at least 1 iteration, not {config.iterations}")
    prompt, steps = ("" if config.prompt == "empty" else None), config.num_inference_steps
    rows = list[AttackPrompt]()
    task_images = TaskImages(model, concept, config, run)
    for indices in index_batches(model, tasks, run, "inverting images"):
        batch = [tasks[i] for i in indices]
        texts, images = [task.prompt for task in batch], task_images.of(batch, indices)
        with run.erasure_disabled() if config.setting == "black_box" else nullcontext():
            cond = model.encode(texts if prompt is None else [prompt] * len(batch))
            noise = invert(model, images, cond, steps, config.iterations)
        rows += start_rows(batch, prompt, noise, 0)
    return AttackSet("inverted_latents", concept, tuple(rows), asdict(config), Budget(steps, 0.0), seed=run.seed)
