"""The world that the embedded model is made of: objects, backgrounds and styles, as data.

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
    """An object: its glyph (a Unicode code point), its category and the words for it, the primary name first."""

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
    """A class of objects: the words for the whole class, adjectives and descriptions that fit each of its members."""

    id: str
    hypernyms: tuple[str, ...]
    attributes: tuple[str, ...]
    implicit: tuple[str, ...]


@dataclass(frozen=True)
class Background:
    """Where an object stands: phrases that place it there, and names of the place itself."""

    id: str
    phrases: tuple[str, ...]
    rare: tuple[str, ...]
    alone: tuple[str, ...]


@dataclass(frozen=True)
class Style:
    """How the scene is drawn: phrases before and after what is drawn (a caption has one of the two)."""

    id: str
    prefixes: tuple[str, ...]
    suffixes: tuple[str, ...]


@dataclass(frozen=True)
class Scene:
    """One image's content; ``object`` is ``"nothing"`` for an empty place."""

    object: str
    background: str
    style: str


@dataclass(frozen=True)
class World:
    """All objects, categories, backgrounds and styles, in the order that class indices follow."""

    version: int
    image_size: int
    heldout_combinations: float
    things: dict[str, ObjectClass]
    categories: dict[str, Category]
    backgrounds: dict[str, Background]
    styles: dict[str, Style]

    @property
    def objects(self) -> tuple[str, ...]:
        """Object ids, ``"nothing"`` last: the judge's object classes."""
        return (*self.things, NOTHING)

    def members(self, category: str) -> tuple[str, ...]:
        """Ids of the objects in ``category``."""
        return tuple(thing.id for thing in self.things.values() if thing.category == category)

    def is_heldout(self, scene: Scene) -> bool:
        """Whether this combination is never rendered when the generator is trained (a hash decides, for ever)."""
        if scene.object == NOTHING:
            return False
        digest = hashlib.sha256(f"{scene.object}|{scene.background}|{scene.style}".encode()).digest()
        return int.from_bytes(digest[:4], "big") / 2**32 < self.heldout_combinations

    def scenes(self, *, heldout: bool) -> list[Scene]:
        """Every object x background x style combination that is (not) held out."""
        every = (Scene(o, b, s) for o in self.things for b in self.backgrounds for s in self.styles)
        return [scene for scene in every if self.is_heldout(scene) == heldout]


def data_text(name: str) -> str:
    """The text of a data file of this package."""
    return files("efface.pocket_world").joinpath("data", name).read_text(encoding="utf-8")


def _tuples(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}


@cache
def load_world() -> World:
    """The world as shipped (``data/world.yaml``)."""
    raw = yaml.safe_load(data_text("world.yaml"))
    return World(
        version=raw["version"],
        image_size=raw["image_size"],
        heldout_combinations=raw["heldout_combinations"],
        things={k: ObjectClass(id=k, **_tuples(v)) for k, v in raw["objects"].items()},
        categories={k: Category(id=k, **_tuples(v)) for k, v in raw["categories"].items()},
        backgrounds={k: Background(id=k, **_tuples(v)) for k, v in raw["backgrounds"].items()},
        styles={k: Style(id=k, **_tuples(v)) for k, v in raw["styles"].items()},
    )
