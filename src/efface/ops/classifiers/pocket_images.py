"""Pocket-classifier's own images as an image set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from efface.pocket_world.labelled_images import LabelledScene, class_names, labelled_scenes

from .image_set import ImageSet


@dataclass(frozen=True)
class PocketImages(ImageSet):
    """A set of pocket's labelled scenes.

    Attributes:
        scenes: the scenes, which are the sources too.
    """

    scenes: Sequence[LabelledScene] = ()

    def subset(self, chosen: Sequence[bool]) -> PocketImages:
        """Returns the images that are chosen."""
        scenes = [scene for scene, keep in zip(self.scenes, chosen, strict=True) if keep]
        return PocketImages(scenes, tuple(scene.label for scene in scenes), scenes)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return class_names()


def pocket_images(split: str) -> PocketImages:
    """Returns the set ``train`` or ``test``."""
    scenes = labelled_scenes(split)
    return PocketImages(scenes, tuple(scene.label for scene in scenes), scenes)
