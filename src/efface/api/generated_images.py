"""Images of prompts and seeds under a progress display."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from efface.core.errors import EffaceError
from efface.core.method_card import KINDS_OF_MODEL

if TYPE_CHECKING:
    from torch import Tensor

    from efface.models.editable import EditableModel
    from efface.ops.training.progress import Progress


def generate_images(
    model: EditableModel, pairs: Sequence[tuple[str, int]], num_inference_steps: int, guidance_scale: float, *,
    phase: str, has_erasure: bool = False, progress: Progress | None = None,
) -> Tensor:  # fmt: skip
    """Generates one image for each prompt and seed; warns of black images with an erasure.

    Args:
        model: The model, with or without an erasure.
        pairs: N prompts with their seeds.
        num_inference_steps: Number of sampling steps.
        guidance_scale: Classifier-free guidance scale.
        phase: Name of these images in the progress display.
        has_erasure: Whether an erasure is applied to the model.
        progress: Progress display; None shows nothing.

    Returns:
        Bytes ``(N, 3, H, W)``.

    Raises:
        EffaceError: The model generates no images, an image is not finite, or one of the model without an erasure is
            black.
    """
    if not hasattr(model, "sample"):
        kind = KINDS_OF_MODEL.get(model.family, model.family)
        raise EffaceError(f"{model.name} generates no images ({kind} do not): give an image model such as pocket")
    from efface.ops.tensor_conversion import to_image_bytes
    from efface.ops.training.progress import Silent

    prompts, seeds = zip(*pairs, strict=True)
    display = progress or Silent()
    display.start(phase, len(pairs), 0)
    try:
        images = model.sample(
            prompts, seeds=seeds, num_inference_steps=num_inference_steps, guidance_scale=guidance_scale,
            progress=_counter(display),
        )  # fmt: skip
    finally:
        display.stop()
    _check_black(images, has_erasure)
    return to_image_bytes(images)


def _counter(display: Progress) -> Callable[[int], None]:
    """Returns a function that adds a number of finished images to the display."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        display.update(done, {})

    return advance


def _check_black(images: Tensor, has_erasure: bool) -> None:
    """Refuses black images of a model without an erasure, and warns of those with one."""
    from efface.models.image_checks import check_base_images, count_black

    if not has_erasure:
        check_base_images(images)
    elif black := count_black(images):
        warnings.warn(f"{black} of {len(images)} images with the erasure are black: it destroys them", stacklevel=3)


def describe_settings(model: EditableModel, num_inference_steps: int, guidance_scale: float) -> str:
    """Describes model and sampler in one line, for headings."""
    return f"{model.name} · {num_inference_steps} steps · guidance scale {guidance_scale:g}"
