"""Compare images of prompts before and after an erasure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from efface.core.output_files import check_file_path
from efface.core.policy import check_prompts
from efface.models.model_ref import ModelLike

from .generated_images import describe_settings, generate_images
from .validation import ErasureLike, load_base, load_erasure

if TYPE_CHECKING:
    from torch import Tensor

    from efface.core.erasure import Erasure
    from efface.ops.training.progress import Progress


@dataclass(frozen=True)
class Comparison:
    """The files of a comparison.

    Attributes:
        page: HTML page with all images, one file that loads nothing else.
        grid: PNG file with the images in a labelled grid.
        num_pairs: number of pairs of images.
    """

    page: Path
    grid: Path
    num_pairs: int


def compare(
    artifact: ErasureLike, prompts: Sequence[str], *, out: str | Path = "compare.html", images_per_prompt: int = 4,
    seed: int = 0, num_inference_steps: int = 20, guidance_scale: float | None = None, model: ModelLike | None = None,
    allow_base_mismatch: bool = False, progress: Progress | None = None,
) -> Comparison:  # fmt: skip
    """Generate images of prompts before and after an erasure with the same seeds, and save them side by side.

    Args:
        artifact: The erasure, or its folder.
        prompts: Prompts; ``""`` is the empty one.
        out: HTML page to write; the PNG grid is written beside it.
        images_per_prompt: Number of pairs of images per prompt.
        seed: Seed of a prompt's first pair; the next ones count up.
        num_inference_steps: Number of sampling steps.
        guidance_scale: Classifier-free guidance scale; by default the model's own.
        model: Base model; by default the erasure's own.
        allow_base_mismatch: Accept a base model other than the erasure's own.
        progress: Progress display; none by default.

    Raises:
        EffaceError: A refused prompt, no erasure in the folder, another base model, or a file that cannot be written.
    """
    check_prompts(prompts)
    check_file_path(Path(out), ".html")
    erasure = load_erasure(artifact)
    loaded = load_base(erasure, model)
    from efface.ops.editing.apply import applied
    from efface.ops.editing.base_check import check_base

    check_base(loaded, erasure, allow_base_mismatch=allow_base_mismatch)
    pairs = [(prompt, seed + i) for prompt in dict.fromkeys(prompts) for i in range(images_per_prompt)]
    sampler = (num_inference_steps, loaded.default_guidance_scale if guidance_scale is None else guidance_scale)
    before = generate_images(loaded, pairs, *sampler, phase="before", progress=progress)
    with applied(loaded, erasure, allow_base_mismatch):
        after = generate_images(loaded, pairs, *sampler, phase="after", has_erasure=True, progress=progress)
    settings = describe_settings(loaded, *sampler)
    return _write(erasure, pairs, before, after, settings, Path(out))


def _write(
    erasure: Erasure, pairs: Sequence[tuple[str, int]], before: Tensor, after: Tensor, settings: str, page: Path
) -> Comparison:
    """Writes the page, and the grid beside it."""
    from efface.core.io import atomic_write_bytes, atomic_write_text
    from efface.ops.png import encode_png
    from efface.reporting.comparison import ComparedImages, comparison_grid, render_comparison_page
    from efface.reporting.image_grid import png_bytes

    images = [
        ComparedImages(*pair, encode_png(old), encode_png(new))
        for pair, old, new in zip(pairs, before, after, strict=True)
    ]
    grid = page.with_suffix(".png")
    atomic_write_text(page, render_comparison_page(erasure, images, settings))
    atomic_write_bytes(grid, png_bytes(comparison_grid(erasure, images, settings)))
    return Comparison(page, grid, len(images))
