"""Refuses images that are not images: NaN, infinite or entirely black ones, which no detector may count as erased."""

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
        raise EffaceError(f"image {row + 1} of {len(images)} holds NaN or infinite values: generate it again")
    return images


def check_generated(images: Tensor, prompts: Sequence[str], seeds: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Returns generated images ``(N, 3, H, W)`` in [0, 1] if all are finite and none is black as an 8-bit image.

    Args:
        images: the images.
        prompts: their prompts, for the message.
        seeds: their seeds, for the message.
        dtype: the model's precision, on which the cure depends.

    Raises:
        EffaceError: an image is not finite, or black.
    """
    rows = images.flatten(1)
    not_finite, black = ~rows.isfinite().all(1), rows.amax(1) < 0.5 / 255
    broken = not_finite | black
    if not bool(broken.any()):
        return images
    row = int(broken.nonzero()[0])
    fault = "is not finite (NaN)" if bool(not_finite[row]) else "is entirely black"
    cure = "the model or an erasure on it is damaged: load the model again, or make the erasure again"
    if dtype == torch.float16:
        cure = "its weights overflow in float16: load it in bfloat16 or float32 (--dtype bfloat16)"
    raise EffaceError(f"the image of {prompts[row]!r} with seed {seeds[row]} {fault}: {cure}")
