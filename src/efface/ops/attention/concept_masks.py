"""Masks of a concept in an image, from cross-attention or from the user's files."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from efface.core.errors import EffaceError
from efface.core.io import user_file_errors
from efface.models.attention_maps import attention_maps
from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning

MASK_SOURCES = ("none", "attention", "folder")
MASK_TIMESTEP = 0.3
"""Timestep of the attention masks, as a fraction of all: objects have their place, but no details yet."""


def resize_masks(masks: Tensor, pixels: int) -> Tensor:
    """Resizes masks to the resolution of a layer.

    Args:
        masks: ``(B, H, W)`` in [0, 1].
        pixels: number of pixels of the layer; the aspect ratio stays the same.

    Returns:
        bool ``(B, pixels)``, row by row: whether the nearest pixel exceeds 0.5.
    """
    height, width = masks.shape[-2:]
    factor = (pixels / (height * width)) ** 0.5
    size = (round(height * factor), round(width * factor))
    return (interpolate(masks[:, None].float(), size=size, mode="nearest") > 0.5).flatten(1)


def read_masks(folder: str | Path, num_images: int) -> Tensor:
    """Reads a folder of PNG masks in the order of their names; white marks the concept.

    Returns:
        ``(num_images, H, W)`` in [0, 1].

    Raises:
        EffaceError: another number of masks than images, masks of different sizes, or an unreadable file.
    """
    paths = sorted(Path(folder).glob("*.png"))
    if len(paths) != num_images:
        raise EffaceError(
            f"{folder} has {len(paths)} masks for {num_images} images: give one PNG per image, named in their order"
        )
    masks = []
    for path in paths:
        with user_file_errors(path, "read"), Image.open(path) as image:
            grey = image.convert("L")
            values = torch.frombuffer(bytearray(grey.tobytes()), dtype=torch.uint8)
            masks.append(values.view(grey.height, grey.width) / 255)
    if len({mask.shape for mask in masks}) > 1:
        raise EffaceError(f"the masks in {folder} have different sizes: give all of them the size of the images")
    return torch.stack(masks)


@torch.no_grad()
def attention_masks(
    model: EditableModel,
    latents: Tensor,
    cond: Conditioning,
    token_mask: Tensor,
    generator: torch.Generator,
    *,
    threshold: float,
    batch_size: int = 16,
) -> Tensor:
    """Computes masks of the pixels at which the frozen model attends to some tokens.

    Attention probabilities are averaged over heads and layers, at `MASK_TIMESTEP`.

    Args:
        model: the original model.
        latents: clean latents of the images, ``(N, C, H, W)``.
        cond: conditioning of their prompts.
        token_mask: the tokens, bool ``(N, L)``.
        generator: of the noise, on the CPU.
        threshold: smallest attention within the mask, as a fraction of the image's maximum.
        batch_size: images of one pass.

    Returns:
        Masks ``(N, H, W)``, 0 or 1.
    """
    height, width = latents.shape[-2:]
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    t = torch.full((len(latents),), round(MASK_TIMESTEP * model.num_train_timesteps), device=latents.device)
    z = model.add_noise(latents, noise, t)
    batches = []
    with attention_maps(model) as maps:
        for start in range(0, len(latents), batch_size):
            rows = slice(start, start + batch_size)
            model.predict(z[rows], t[rows], cond[rows])
            layers = [_token_attention(layer, token_mask[rows], height, width) for layer in maps.values()]
            batches.append(torch.stack(layers).mean(0))
    attention = torch.cat(batches)
    return (attention >= threshold * attention.amax((1, 2), keepdim=True)).float()


def _token_attention(layer: Tensor, token_mask: Tensor, height: int, width: int) -> Tensor:
    """Sums probabilities ``(B, heads, pixels, L)`` over some tokens and resizes them to ``(B, H, W)``."""
    attention = (layer.mean(1) * token_mask[:, None]).sum(-1)
    factor = (attention.shape[1] / (height * width)) ** 0.5
    low_resolution = attention.unflatten(1, (round(height * factor), -1))[:, None]
    return interpolate(low_resolution, size=(height, width), mode="bilinear")[:, 0]
