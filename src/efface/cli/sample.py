"""``efface sample``: generate images in a labelled grid, with or without an erasure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from efface.core.concept_names import concept_names
from efface.core.output_files import check_file_path
from efface.core.policy import check_prompts
from efface.models.loading import load_model
from efface.models.model_ref import ModelRef

from .app import app
from .model_options import as_model_ref, model_options
from .options import AllowBaseMismatch, Json
from .output import print_result

if TYPE_CHECKING:
    from torch import Tensor

    from efface.core.erasure import Erasure

Prompts = Annotated[list[str], typer.Argument(help='Prompts to generate images from; "" is the empty prompt.')]
ImagesPerPrompt = Annotated[int, typer.Option("-n", min=1, help="Number of images per prompt.")]
FirstSeed = Annotated[
    int, typer.Option("--seed", min=0, help="Seed of the first image of a prompt; the next images count up from it.")
]
NumInferenceSteps = Annotated[int, typer.Option("--steps", min=1, max=1000, help="Number of sampling steps.")]
AppliedErasure = Annotated[
    Path | None, typer.Option("--erasure", help="Folder of an erasure to apply while the images are generated.")
]
SampledModel = Annotated[
    ModelRef | None,
    typer.Option(
        "--model",
        parser=as_model_ref,
        metavar="TEXT",
        help="Model, in any form that `efface erase` accepts; by default pocket, or the base model of --erasure.",
    ),
]
GuidanceScale = Annotated[
    float | None,
    typer.Option(help="Guidance scale; by default the model's own: 3, or 3.5 for FLUX.1-dev and 0 for FLUX.1-schnell."),
]


@app.command()
@model_options("model")
def sample(
    prompts: Prompts,
    images_per_prompt: ImagesPerPrompt = 8,
    seed: FirstSeed = 0,
    out: Annotated[Path, typer.Option(help="PNG file to write the grid to.")] = Path("sample.png"),
    erasure: AppliedErasure = None,
    model: SampledModel = None,
    num_inference_steps: NumInferenceSteps = 20,
    guidance_scale: GuidanceScale = None,
    allow_base_mismatch: AllowBaseMismatch = False,
    as_json: Json = False,
) -> None:
    """Generate images, with an erasure if one is named, and save them as one labelled grid."""
    data = save_grid(
        prompts,
        seeds=range(seed, seed + images_per_prompt),
        out=out,
        model=model or ModelRef(None),
        erasure=erasure,
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        allow_base_mismatch=allow_base_mismatch,
    )
    print_result(data, f"{data['images']} images in {data['seconds']:.1f} s\n{out}", as_json)


def save_grid(
    prompts: Sequence[str], *, seeds: Sequence[int], out: Path, model: ModelRef, erasure: Path | None,
    num_inference_steps: int, guidance_scale: float | None, allow_base_mismatch: bool,
) -> dict[str, Any]:  # fmt: skip
    """Generates an image of every prompt with every seed and saves one labelled grid; returns its description.

    Raises:
        EffaceError: a refused prompt, an unknown model or erasure, or a file that cannot be written, before the model
            is loaded; or an erasure of another base model.
    """
    check_prompts(prompts)
    check_file_path(out, ".png")
    applied_erasure = None if erasure is None else _load_erasure(erasure)
    loaded = load_model(model, default="pocket" if applied_erasure is None else applied_erasure.spec.model)
    from efface.api.generated_images import describe_settings, generate_images
    from efface.ops.editing.apply import applied
    from efface.ops.training.progress import terminal_progress

    scale = loaded.default_guidance_scale if guidance_scale is None else guidance_scale
    start = time.perf_counter()
    pairs = [(prompt, seed) for prompt in prompts for seed in seeds]
    with nullcontext() if applied_erasure is None else applied(loaded, applied_erasure, allow_base_mismatch):
        images = generate_images(
            loaded, pairs, num_inference_steps, scale, phase="sample",
            has_erasure=applied_erasure is not None, progress=terminal_progress(),
        )  # fmt: skip
    seconds = time.perf_counter() - start
    settings = describe_settings(loaded, num_inference_steps, scale)
    _write_grid(images, pairs, settings + _erased_by(applied_erasure), out)
    folder = None if erasure is None else str(erasure)
    result = {"out": str(out), "model": loaded.name, "erasure": folder, "prompts": list(prompts)}
    return {**result, "images": len(images), "seconds": seconds}


def _load_erasure(folder: Path) -> Erasure:
    from efface.api.validation import load_erasure  # imports numpy

    return load_erasure(folder)


def _erased_by(erasure: Erasure | None) -> str:
    """The erasure in words, for the heading; empty without one."""
    if erasure is None:
        return ""
    return f" · erasure of {concept_names(erasure.concepts)} by {erasure.spec.method}"


def _write_grid(images: Tensor, pairs: Sequence[tuple[str, int]], subtitle: str, out: Path) -> None:
    """Writes the PNG file; one prompt is the title, several are labels."""
    from PIL import Image

    from efface.core.io import atomic_write_bytes
    from efface.reporting.image_grid import labelled_grid, png_bytes

    names = {prompt: prompt or "(no prompt)" for prompt, _ in pairs}
    single = len(names) == 1
    labels = [f"seed {seed}" if single else f"{names[prompt]} · {seed}" for prompt, seed in pairs]
    title = names[pairs[0][0]] if single else f"{len(names)} prompts"
    cells = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    atomic_write_bytes(out, png_bytes(labelled_grid(cells, labels, title=title, subtitle=subtitle)))
