"""Sets of labelled images: pocket-classifier's own, and folders with one subfolder a class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from efface.core.errors import EffaceError
from efface.core.io import IMAGE_SUFFIXES
from efface.core.subsample import evenly_spaced
from efface.models.classifier import ClassifierModel

BATCH = 64
UNKNOWN = -1
"""Label of an image whose class is not known."""


class Drawing(Protocol):
    """An image that is drawn when it is needed."""

    def draw(self) -> NDArray[np.uint8]:
        """Returns the image, ``(H, W, 3)`` bytes."""
        ...


@dataclass(frozen=True)
class ImageSet:
    """Images with labels, read when they are needed.

    Attributes:
        sources: files or drawings.
        labels: index of each image's class, or `UNKNOWN`.
    """

    sources: Sequence[Path | Drawing] = field(repr=False)
    labels: tuple[int, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, chosen: Sequence[bool]) -> ImageSet:
        """Returns the images that are chosen."""
        rows = [i for i, keep in enumerate(chosen) if keep]
        return ImageSet([self.sources[i] for i in rows], tuple(self.labels[i] for i in rows))

    def limited(self, limit: int | None) -> ImageSet:
        """Returns at most ``limit`` images; the choice is the same in every call."""
        rows = set(evenly_spaced(range(len(self)), limit))
        return self.subset([i in rows for i in range(len(self))])

    def image(self, index: int) -> Image.Image:
        """Reads or draws one image.

        Raises:
            EffaceError: a file is no image.
        """
        source = self.sources[index]
        if not isinstance(source, Path):
            return Image.fromarray(source.draw())
        try:
            with Image.open(source) as image:
                return image.convert("RGB")
        except (OSError, UnidentifiedImageError) as error:
            raise EffaceError(f"{source} is no image that can be read: remove it from the folder") from error

    def inputs(self, model: ClassifierModel) -> Tensor:
        """Returns all images as the model's input, ``(N, 3, H, W)``."""
        return torch.cat(list(self.batches(model)))

    def at(self, rows: Sequence[int], model: ClassifierModel) -> Tensor:
        """Returns some images as the model's input."""
        return model.preprocess([self.image(row) for row in rows])

    def batches(self, model: ClassifierModel, size: int = BATCH) -> Iterator[Tensor]:
        """Yields the images in order as inputs of the model."""
        for start in range(0, len(self), size):
            yield model.preprocess([self.image(i) for i in range(start, min(start + size, len(self)))])


def folder_images(folder: Path, model: ClassifierModel) -> ImageSet:
    """Returns the images of a folder that has one subfolder a class, named like the class.

    Raises:
        EffaceError: the folder does not exist, a subfolder is no class of the model, or there are no images.
    """
    if not folder.is_dir():
        raise EffaceError(f"there is no folder {folder}: give one with a subfolder of images for each class")
    sources: list[Path] = []
    labels: list[int] = []
    for path in sorted(item for item in folder.iterdir() if item.is_dir()):
        label = model.class_indices([path.name.replace("_", " ") if path.name not in model.classes else path.name])[0]
        files = files_below(path)
        sources += files
        labels += [label] * len(files)
    if not sources:
        raise EffaceError(f"{folder} has no images in subfolders: make one subfolder for each class, named like it")
    return ImageSet(sources, tuple(labels))


def files_below(folder: Path) -> list[Path]:
    """Returns the image files of a folder and its subfolders, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
