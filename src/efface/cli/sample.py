"""``efface sample``: generate images in a labelled grid."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from efface.core.errors import EffaceError
from efface.core.policy import check_prompts
from efface.models.loading import load_model
from efface.models.model_ref import ModelRef, model_name

from .app import app
from .model_options import POCKET, Model, model_options
from .options import Json
from .output import print_result

if TYPE_CHECKING:
    from PIL import Image

    from efface.models.stable_diffusion import StableDiffusionModel

Prompts = Annotated[list[str], typer.Argument(help='Prompts to generate images from; "" is the empty prompt.')]
ImagesPerPrompt = Annotated[int, typer.Option("-n", min=1, help="Number of images per prompt.")]
FirstSeed = Annotated[
    int, typer.Option("--seed", min=0, help="Seed of the first image of a prompt; the next images count up from it.")
]
NumInferenceSteps = Annotated[int, typer.Option("--steps", min=1, max=1000, help="Number of DDIM steps.")]
GuidanceScale = Annotated[float, typer.Option(help="Classifier-free guidance scale; 1 disables guidance.")]


@app.command()
@model_options("model")
def sample(
    prompts: Prompts,
    images_per_prompt: ImagesPerPrompt = 8,
    seed: FirstSeed = 0,
    out: Annotated[Path, typer.Option(help="PNG file to write the grid to.")] = Path("sample.png"),
    model: Model = POCKET,
    num_inference_steps: NumInferenceSteps = 20,
    guidance_scale: GuidanceScale = 3.0,
    as_json: Json = False,
) -> None:
    """Generate images and save them as one labelled grid."""
    data = save_grid(
        prompts,
        seeds=range(seed, seed + images_per_prompt),
        out=out,
        model=model,
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
    )
    print_result(data, f"{data['images']} images in {data['seconds']:.1f} s\n{out}", as_json)


def save_grid(
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    out: Path,
    model: ModelRef,
    num_inference_steps: int,
    guidance_scale: float,
) -> dict[str, Any]:
    """Generates an image of every prompt with every seed and saves one labelled grid; returns its description.

    Raises:
        EffaceError: a refused prompt, an unknown model, or a file that cannot be written, before the model is loaded.
    """
    check_prompts(prompts)
    check_png_path(out)
    model_name(model)
    from efface.reporting.image_grid import labelled_grid

    loaded = load_model(model)
    start = time.perf_counter()
    pairs = [(prompt, seed) for prompt in prompts for seed in seeds]
    images = _generate(loaded, pairs, num_inference_steps, guidance_scale)
    seconds = time.perf_counter() - start
    names = {prompt: prompt or "(no prompt)" for prompt in prompts}
    single = len(prompts) == 1
    labels = [f"seed {seed}" if single else f"{names[prompt]} · {seed}" for prompt, seed in pairs]
    title = names[prompts[0]] if single else f"{len(prompts)} prompts"
    subtitle = f"{loaded.name} · {num_inference_steps} DDIM steps · guidance scale {guidance_scale:g}"
    _save_png(labelled_grid(images, labels, title=title, subtitle=subtitle), out)
    return {
        "out": str(out),
        "model": loaded.name,
        "prompts": list(prompts),
        "images": len(images),
        "seconds": seconds,
    }


def check_png_path(path: Path) -> None:
    """Checks that a PNG file can be written.

    Raises:
        EffaceError: another suffix, or a folder that does not exist or cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise EffaceError(f"{path} does not end in .png: name a PNG file, such as --out {path.stem or 'sample'}.png")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise EffaceError(f"the folder {folder} does not exist: create it first, or choose another --out")
    if not os.access(folder, os.W_OK):
        raise EffaceError(f"no permission to write to the folder {folder}: choose another --out")


def _generate(
    model: StableDiffusionModel, pairs: Sequence[tuple[str, int]], num_inference_steps: int, guidance_scale: float
) -> list[Image.Image]:
    """Generates one image for each prompt and seed under a progress bar."""
    from PIL import Image

    from efface.ops.training.progress import RichProgress

    progress, done = RichProgress(), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress.update(done, {})

    progress.start("sample", len(pairs), 0)
    try:
        images = model.sample(
            [prompt for prompt, _ in pairs],
            seeds=[seed for _, seed in pairs],
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            progress=advance,
        )
    finally:
        progress.stop()
    arrays = (images * 255 + 0.5).clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(array) for array in arrays]


def _save_png(image: Image.Image, path: Path) -> None:
    """Writes a PNG file atomically."""
    from io import BytesIO

    from efface.core.io import atomic_write_bytes

    buffer = BytesIO()
    image.save(buffer, format="PNG")
    atomic_write_bytes(path, buffer.getvalue())
