"""A user's images of a concept, from a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.image_files import image_files
from efface.core.io import user_file_errors
from efface.models.editable import EditableModel

from .latents import Latents


def encode_folder(model: EditableModel, concepts: Sequence[Concept], folder: str) -> Latents:
    """Encodes the images of each concept.

    Args:
        model: the model, whose VAE encodes the images.
        concepts: the concepts.
        folder: holds the images of one concept; of several, one folder for each, with the concept's name.

    Returns:
        Latents ``(N, C, H, W)``; the prompt index is the index of the concept.

    Raises:
        EffaceError: a folder or an image that cannot be read, a folder without images, or an image of another size.
    """
    groups = [read_images(path, model.image_size) for path in concept_folders(concepts, folder)]
    index = torch.tensor([number for number, images in enumerate(groups) for _ in images])
    with torch.no_grad():
        latents = [model.encode_image(image[None].to(model.device)) for images in groups for image in images]
    return Latents(model, torch.cat(latents), index)


def concept_folders(concepts: Sequence[Concept], folder: str) -> list[Path]:
    """Returns the folder of each concept's images: of several concepts, one of each one's name."""
    return [Path(folder) / concept.name for concept in concepts] if len(concepts) > 1 else [Path(folder)]


def read_images(folder: Path, size: int) -> list[Tensor]:
    """Reads the images of a folder, by name: ``(3, size, size)`` each, in [0, 1].

    Raises:
        EffaceError: a folder or an image that cannot be read, a folder without images, or an image of another size.
    """
    return [_read_image(path, size) for path in image_files(folder)]


def _read_image(path: Path, size: int) -> Tensor:
    """Reads one image, ``(3, size, size)`` in [0, 1]."""
    with user_file_errors(path, "read"), Image.open(path) as image:
        if image.size != (size, size):
            width, height = image.size
            raise EffaceError(
                f"{path} has {width} x {height} pixels, and the model's images {size} x {size}: crop or resize it"
            )
        pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
