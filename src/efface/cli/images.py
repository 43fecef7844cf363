"""What commands that draw share: sampling under a progress bar, and files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from efface.core.io import user_file_errors
from efface.models.stable_diffusion import StableDiffusionModel


def to_pil_images(images: Tensor) -> list[Image.Image]:
    """Images ``(N, 3, H, W)`` in [0, 1] as PIL images."""
    return [Image.fromarray(a) for a in (images * 255 + 0.5).clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()]


def sample_with_progress(
    model: StableDiffusionModel,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    steps: int,
    guidance: float,
    label: str = "drawing",
) -> Tensor:
    """Sample under a progress bar on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=len(prompts))
        return model.sample(
            prompts,
            seeds=seeds,
            num_inference_steps=steps,
            guidance_scale=guidance,
            progress=lambda done: bar.update(task, advance=done),
        )


def generate_with_progress(
    model: StableDiffusionModel, prompts: Sequence[str], seeds: Sequence[int], *, steps: int, guidance: float
) -> list[Image.Image]:
    """Like :func:`sample_with_progress`, as PIL images."""
    return to_pil_images(sample_with_progress(model, prompts, seeds, steps=steps, guidance=guidance))


def save_png(image: Image.Image, path: Path) -> None:
    """Write a PNG atomically."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with user_file_errors(path):
        try:
            image.save(scratch, format="PNG")
            os.replace(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)
