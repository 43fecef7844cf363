"""The training and test set of pocket-classifier: labelled scenes, drawn when they are needed.

Every image has a seed of its own, so that the sets are the same everywhere. Each training image belongs to one of
`NUM_OWNERS` imaginary owners, who can ask that their images be forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from .scenes import draw_scene
from .world import Scene, load_world

PER_CLASS = {"train": 40, "test": 40}
"""Number of images of a class, by set."""
NUM_OWNERS = 40
SEED = 31


@dataclass(frozen=True)
class LabelledScene:
    """One image of a set, which `draw` draws.

    Attributes:
        label: index of its class in `class_names`.
        scene: its content.
        owner: its owner, from 0 to `NUM_OWNERS` - 1; every owner has images of most classes.
        seed: seed of the drawing.
    """

    label: int
    scene: Scene
    owner: int
    seed: tuple[int, ...]

    def draw(self) -> NDArray[np.uint8]:
        """Draws the image, ``(64, 64, 3)`` bytes; the same array every time."""
        return _drawn(self)


@lru_cache(maxsize=8192)
def _drawn(item: LabelledScene) -> NDArray[np.uint8]:
    return draw_scene(item.scene, np.random.default_rng([*item.seed, 1]))


@cache
def class_names() -> tuple[str, ...]:
    """Returns the names of the classes: pocket's objects."""
    return tuple(item.name for item in load_world().object_classes.values())


@cache
def labelled_scenes(split: str) -> tuple[LabelledScene, ...]:
    """Returns the set ``train`` or ``test``, class by class; background and style of an image are random."""
    world, number = load_world(), list(PER_CLASS).index(split)
    places, styles, scenes = tuple(world.backgrounds), tuple(world.styles), []
    for label, name in enumerate(world.object_classes):
        for i in range(PER_CLASS[split]):
            seed = (SEED, number, label, i)
            rng = np.random.default_rng(seed)
            scene = Scene(name, places[int(rng.integers(len(places)))], styles[int(rng.integers(len(styles)))])
            scenes.append(LabelledScene(label, scene, int(rng.integers(NUM_OWNERS)), seed))
    return tuple(scenes)


def selection(kind: str, name: str) -> Callable[[LabelledScene], bool] | None:
    """Returns the test whether an image is of a style, or of an owner ("owner 7"); None for other concepts."""
    world = load_world()
    if kind == "style" and name in world.styles:
        return lambda item: item.scene.style == name
    word, _, number = name.partition(" ")
    if kind == "samples" and word == "owner" and number.isdecimal() and int(number) < NUM_OWNERS:
        return lambda item: item.owner == int(number)
    return None
