"""Preprocessing of a classifier's images as its ``preprocessor_config.json`` defines it.

The libraries' own processors need torchvision.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from efface.core.errors import EffaceError
from efface.core.io import read_json

FILE = "preprocessor_config.json"
_INTERPOLATIONS = {0: "nearest", 2: "bilinear", 3: "bicubic"}


@dataclass(frozen=True)
class Preprocess:
    """Resizes, crops the centre and normalizes.

    Attributes:
        resize: height and width in pixels after resizing.
        crop: height and width in pixels of the central crop.
        interpolation: ``nearest``, ``bilinear`` or ``bicubic``.
        mean: by channel, of values in [0, 1].
        std: standard deviation by channel, of values in [0, 1].
    """

    resize: int
    crop: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def from_folder(cls, folder: Path) -> Preprocess:
        """Reads the folder's ``preprocessor_config.json``.

        Raises:
            EffaceError: the file does not exist, or lacks a setting.
        """
        if not (folder / FILE).is_file():
            raise EffaceError(f"{folder} has no {FILE}: save the model's image processor in it")
        return cls.from_settings(read_json(folder / FILE), str(folder / FILE))

    @classmethod
    def from_settings(cls, settings: Any, where: str) -> Preprocess:
        """Reads the settings of an image processor.

        Args:
            settings: the settings by name.
            where: their origin, for the message.

        Raises:
            EffaceError: a setting is missing.
        """
        try:
            resize, crop = _sizes(settings)
            interpolation = _INTERPOLATIONS[settings.get("resample", 2)]
            mean: tuple[float, ...] = (0.0, 0.0, 0.0)
            std: tuple[float, ...] = (1.0, 1.0, 1.0)
            if settings.get("do_normalize", True):
                mean = tuple(settings["image_mean"])
                std = tuple(settings["image_std"])
            return cls(resize, min(crop, resize), interpolation, mean, std)
        except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
            raise EffaceError(
                f"{where} does not say size, resample, image_mean and image_std as image processors do"
            ) from error

    def __call__(self, images: Tensor) -> Tensor:
        """Maps square images ``(N, 3, H, W)`` in [0, 1] to normalized ones ``(N, 3, crop, crop)``."""
        options = {} if self.interpolation == "nearest" else {"antialias": True, "align_corners": False}
        size = (self.resize, self.resize)
        resized = interpolate(images, size, mode=self.interpolation, **options).clamp(0, 1)  # type: ignore[arg-type]
        start = (self.resize - self.crop) // 2
        cropped = resized[..., start : start + self.crop, start : start + self.crop]
        mean = torch.tensor(self.mean, device=cropped.device)[:, None, None]
        std = torch.tensor(self.std, device=cropped.device)[:, None, None]
        return (cropped - mean) / std


@dataclass(frozen=True)
class ImageTransform:
    """Maps an image of any size to a classifier's input: its central square, preprocessed.

    Attributes:
        preprocess: the preprocessing of square images.
    """

    preprocess: Preprocess

    def __call__(self, image: Image.Image) -> Tensor:
        """Returns the input ``(3, crop, crop)``."""
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.convert("RGB").crop((left, top, left + side, top + side))
        pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float() / 255
        return self.preprocess(pixels)[0]


def _sizes(settings: Any) -> tuple[int, int]:
    """Returns the size after resizing and the size of the crop."""
    size = settings["size"]
    if isinstance(size, int):
        size = {"shortest_edge": size}
    resize = int(size.get("shortest_edge") or size["height"])
    crop = settings.get("crop_size", resize) if settings.get("do_center_crop") else resize
    crop = int(crop if isinstance(crop, int) else crop["height"])
    crop_share = settings.get("crop_pct")
    if crop_share and resize < 384:
        # ConvNeXt's processor: the size is that of the crop, which is a share of the resized image.
        return int(resize / crop_share), resize
    return resize, crop
