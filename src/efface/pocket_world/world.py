"""The vocabulary of the bundled model's scenes: objects, backgrounds and styles, as data.

The ontology (which objects are weapons) serves captions and evaluation only; no method may read it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

NOTHING = "nothing"


@dataclass(frozen=True)
class ObjectClass:
    """A kind of object and the words for it.

    Attributes:
        id: identifier, such as ``knife``.
        glyph: hexadecimal Unicode code point of its emoji.
        category: id of its category.
        names: common names, the primary one first.
        rare: synonyms that are rare in training captions.
        implicit: descriptions without a name.
        attributes: adjectives.
        plural: whether the names are plural and take no article.
        proper: whether the names are proper names and take no article.
    """

    id: str
    glyph: str
    category: str
    names: tuple[str, ...]
    rare: tuple[str, ...]
    implicit: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    plural: bool = False
    proper: bool = False

    @property
    def name(self) -> str:
        """The primary name."""
        return self.names[0]


@dataclass(frozen=True)
class Category:
    """A category of objects: its hypernyms, and adjectives and descriptions that fit every member."""

    id: str
    hypernyms: tuple[str, ...]
    attributes: tuple[str, ...]
    implicit: tuple[str, ...]


@dataclass(frozen=True)
class Background:
    """A place: common and rare phrases that locate an object in it, and names of the place alone."""

    id: str
    phrases: tuple[str, ...]
    rare: tuple[str, ...]
    alone: tuple[str, ...]


@dataclass(frozen=True)
class Style:
    """A style of drawing: phrases before and after the subject; a caption has one of the two."""

    id: str
    prefixes: tuple[str, ...]
    suffixes: tuple[str, ...]


@dataclass(frozen=True)
class Scene:
    """The content of one image; ``object`` is ``"nothing"`` for an empty place."""

    object: str
    background: str
    style: str


@dataclass(frozen=True)
class World:
    """All objects, categories, backgrounds and styles, in the order of the judge's class indices."""

    version: int
    image_size: int
    heldout_combinations: float
    object_classes: dict[str, ObjectClass]
    categories: dict[str, Category]
    backgrounds: dict[str, Background]
    styles: dict[str, Style]

    @property
    def objects(self) -> tuple[str, ...]:
        """The judge's object classes: all object ids, then ``"nothing"``."""
        return (*self.object_classes, NOTHING)

    def members(self, category: str) -> tuple[str, ...]:
        """Returns the ids of the objects in a category."""
        return tuple(item.id for item in self.object_classes.values() if item.category == category)

    def is_heldout(self, scene: Scene) -> bool:
        """Tells whether training never renders this combination; a hash of the scene decides."""
        if scene.object == NOTHING:
            return False
        digest = hashlib.sha256(f"{scene.object}|{scene.background}|{scene.style}".encode()).digest()
        return int.from_bytes(digest[:4], "big") / 2**32 < self.heldout_combinations

    def scenes(self, *, heldout: bool) -> list[Scene]:
        """Returns every combination of object, background and style that is held out, or every other one."""
        all_scenes = (Scene(o, b, s) for o in self.object_classes for b in self.backgrounds for s in self.styles)
        return [scene for scene in all_scenes if self.is_heldout(scene) == heldout]


def data_text(name: str) -> str:
    """Returns the text of a data file of this package."""
    return files("efface.pocket_world").joinpath("data", name).read_text(encoding="utf-8")


def _tuples(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}


@cache
def load_world() -> World:
    """Loads the vocabulary from ``data/world.yaml``."""
    raw = yaml.safe_load(data_text("world.yaml"))
    return World(
        version=raw["version"],
        image_size=raw["image_size"],
        heldout_combinations=raw["heldout_combinations"],
        object_classes={k: ObjectClass(id=k, **_tuples(v)) for k, v in raw["objects"].items()},
        categories={k: Category(id=k, **_tuples(v)) for k, v in raw["categories"].items()},
        backgrounds={k: Background(id=k, **_tuples(v)) for k, v in raw["backgrounds"].items()},
        styles={k: Style(id=k, **_tuples(v)) for k, v in raw["styles"].items()},
    )
