"""How a classifier's images are prepared, as its ``preprocessor_config.json`` says; libraries' own processors need torchvision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from efface.core.errors import EffaceError
from efface.core.io import read_json

FILE = "preprocessor_config.json"
_FILTERS = {0: "nearest", 2: "bilinear", 3: "bicubic"}


@dataclass(frozen=True)
class Preprocess:
    """Resize, crop the middle, scale.

    Attributes:
        side: pixels a side after resizing. crop: of the middle that is left.
        filter: ``nearest``, ``bilinear`` or ``bicubic``.
        mean, deviation: by channel, of values in [0, 1].
    """

    side: int
    crop: int
    filter: str
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def of(cls, folder: Path) -> Preprocess:
        """What the folder's file says; raises `EffaceError` where there is none, or one that says something else."""
        if not (folder / FILE).is_file():
            raise EffaceError(f"{folder} has no {FILE}: save the model's image processor beside it")
        said: Any = read_json(folder / FILE)
        try:
            size = said["size"]
            size = {"shortest_edge": size} if isinstance(size, int) else size
            side = int(size.get("shortest_edge") or size["height"])
            crop = said.get("crop_size", side) if said.get("do_center_crop") else side
            crop = int(crop if isinstance(crop, int) else crop["height"])
            if (
                "crop_pct" in said and said["crop_pct"] and side < 384
            ):  # as ConvNeXt's processor: the side is what is left of the image
                crop, side = side, int(side / said["crop_pct"])
            plain = not said.get("do_normalize", True)
            mean, deviation = (
                ((0.0,) * 3, (1.0,) * 3) if plain else (tuple(said["image_mean"]), tuple(said["image_std"]))
            )
            return cls(side, min(crop, side), _FILTERS[said.get("resample", 2)], mean, deviation)
        except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
            raise EffaceError(
                f"{folder / FILE} does not say size, resample, image_mean and image_std as image processors do"
            ) from error

    def __call__(self, images: Tensor) -> Tensor:
        """Square images ``(N, 3, H, W)`` in [0, 1] to ``(N, 3, crop, crop)``, scaled."""
        smooth = {} if self.filter == "nearest" else {"antialias": True, "align_corners": False}
        resized = interpolate(images, (self.side, self.side), mode=self.filter, **smooth).clamp(0, 1)  # type: ignore[arg-type]
        at = (self.side - self.crop) // 2
        cut = resized[..., at : at + self.crop, at : at + self.crop]
        mean, deviation = (
            torch.tensor(values, device=cut.device)[:, None, None] for values in (self.mean, self.deviation)
        )
        return (cut - mean) / deviation
