"""Images of prompts and seeds under a progress display."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from efface.models.editable import EditableModel
    from efface.ops.training.progress import Progress


def generate_images(
    model: EditableModel, pairs: Sequence[tuple[str, int]], num_inference_steps: int, guidance_scale: float, *,
    phase: str, progress: Progress | None = None,
) -> Tensor:  # fmt: skip
    """Generates one image for each prompt and seed.

    Args:
        model: The model, with or without an erasure.
        pairs: N prompts with their seeds.
        num_inference_steps: Number of denoising steps.
        guidance_scale: Classifier-free guidance scale.
        phase: Name of these images in the progress display.
        progress: Progress display; None shows nothing.

    Returns:
        Bytes ``(N, 3, H, W)``.
    """
    from efface.ops.training.progress import Silent

    display, done = progress or Silent(), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        display.update(done, {})

    display.start(phase, len(pairs), 0)
    try:
        images = model.sample(
            [prompt for prompt, _ in pairs],
            seeds=[seed for _, seed in pairs],
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            progress=advance,
        )
    finally:
        display.stop()
    return (images * 255 + 0.5).clamp(0, 255).byte().cpu()


def describe_settings(model: EditableModel, num_inference_steps: int, guidance_scale: float) -> str:
    """Describes model and sampler in one line, for headings."""
    return f"{model.name} · {num_inference_steps} steps · guidance scale {guidance_scale:g}"
