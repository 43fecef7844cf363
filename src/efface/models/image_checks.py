"""Refuses images with numbers that are not finite, and black images of a model that nothing was erased from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from efface.core.errors import EffaceError


def check_finite(images: Tensor) -> Tensor:
    """Returns images ``(N, 3, H, W)`` if all their values are finite.

    Raises:
        EffaceError: a value is NaN or infinite.
    """
    broken = ~images.flatten(1).isfinite().all(1)
    if bool(broken.any()):
        row = int(broken.nonzero()[0])
        raise EffaceError(
            f"image {row + 1} of {len(images)} holds NaN or infinity, and no detector can judge it: load the model in "
            "float32 (--dtype float32), or evaluate another model"
        )
    return images


def check_generated(images: Tensor, prompts: Sequence[str], seeds: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Returns generated images ``(N, 3, H, W)`` if all their values are finite.

    Args:
        images: the images.
        prompts: their prompts, for the message.
        seeds: their seeds, for the message.
        dtype: the model's precision, on which the cure depends.

    Raises:
        EffaceError: an image is not finite.
    """
    broken = ~images.flatten(1).isfinite().all(1)
    if not bool(broken.any()):
        return images
    row = int(broken.nonzero()[0])
    cure = "the model or an erasure on it is damaged: load the model again, or make the erasure again"
    if dtype == torch.float16:
        cure = "the weights overflow in float16: load the model in bfloat16 or float32 (--dtype bfloat16)"
    raise EffaceError(f"the image of {prompts[row]!r} with seed {seeds[row]} is not finite (NaN): {cure}")


def count_black(images: Tensor) -> int:
    """Returns how many of the images ``(N, 3, H, W)`` in [0, 1] are black as 8-bit images."""
    return int((images.flatten(1).amax(1) < 0.5 / 255).sum())


def check_base_images(images: Tensor) -> Tensor:
    """Returns images ``(N, 3, H, W)`` in [0, 1] of a model without an erasure if none is black as an 8-bit image.

    Black images that an erasure causes are counted as destroyed; those of the base model mean that it does not work.

    Raises:
        EffaceError: an image is black.
    """
    if black := count_black(images):
        raise EffaceError(
            f"{black} of {len(images)} images of the model without an erasure are black: the model is damaged or "
            "overflows; load it in float32 (--dtype float32), or give another model"
        )
    return images
