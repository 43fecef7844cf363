"""Where in an image a concept is: everywhere, where the frozen model looks for it, or as the user's masks say."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from efface.core.errors import EffaceError
from efface.core.io import user_file_errors
from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning

from .maps import attention_maps

MASKS = ("none", "attention", "folder")


def check_fits(masks: Tensor, pixels: int) -> Tensor:
    """Masks ``(B, H, W)`` at the resolution of a layer: bool ``(B, pixels)``, row by row, by the nearest pixel and above one half."""
    height, width = masks.shape[-2:]
    factor = (pixels / (height * width)) ** 0.5
    size = (round(height * factor), round(width * factor))
    return (interpolate(masks[:, None].float(), size=size, mode="nearest") > 0.5).flatten(1)


def read_masks(folder: str | Path, count: int) -> Tensor:
    """The PNGs of a folder in the order of their names, white where the concept is: ``(count, H, W)`` in [0, 1].

    Raises:
        EffaceError: not one for each image, of several sizes, or unreadable.
    """
    paths = sorted(Path(folder).glob("*.png"))
    if len(paths) != count:
        raise EffaceError(
            f"{folder} holds {len(paths)} masks for {count} images: give one PNG for each, in their order"
        )
    rows = []
    for path in paths:
        with user_file_errors(path, "read"), Image.open(path) as image:
            grey = image.convert("L")
            rows.append(
                torch.frombuffer(bytearray(grey.tobytes()), dtype=torch.uint8).view(grey.height, grey.width) / 255
            )
    if len({row.shape for row in rows}) > 1:
        raise EffaceError(f"the masks in {folder} are of several sizes: make them all as large as the images")
    return torch.stack(rows)


@torch.no_grad()
def attention_masks(
    model: EditableModel, clean: Tensor, cond: Conditioning, tokens: Tensor, generator: torch.Generator, *,
    threshold: float, batch: int = 16,
) -> Tensor:  # fmt: skip
    """Where the frozen model looks when it reads some tokens: above a share of the largest attention in the image.

    Probabilities are averaged over heads and layers, at the noise of 300 of 1000 timesteps, where things are placed but not yet painted.

    Args:
        model: the original.
        clean: latents of the images, ``(N, C, H, W)``.
        cond: of their prompts.
        tokens: which tokens, bool ``(N, L)``.
        generator: of the noise, on the CPU.
        threshold: the share.
        batch: images a pass.

    Returns:
        Masks ``(N, H, W)``, 0 or 1.
    """
    height, width = clean.shape[-2:]
    rows = []
    noise = torch.randn(clean.shape, generator=generator).to(clean)
    t = torch.full((len(clean),), round(0.3 * model.timesteps), device=clean.device)
    z = model.add_noise(clean, noise, t)
    with attention_maps(model) as maps:
        for start in range(0, len(clean), batch):
            part = slice(start, start + batch)
            model.predict(z[part], t[part], cond[part])
            rows.append(torch.stack([_heat(layer, tokens[part], height, width) for layer in maps.values()]).mean(0))
    heat = torch.cat(rows)
    return (heat >= threshold * heat.amax((1, 2), keepdim=True)).float()


def _heat(layer: Tensor, tokens: Tensor, height: int, width: int) -> Tensor:
    """Probabilities ``(B, heads, pixels, L)`` of some tokens as ``(B, H, W)``."""
    of_tokens = (layer.mean(1) * tokens[:, None]).sum(-1)
    factor = (of_tokens.shape[1] / (height * width)) ** 0.5
    low = of_tokens.unflatten(1, (round(height * factor), -1))[:, None]
    return interpolate(low, size=(height, width), mode="bilinear")[:, 0]
