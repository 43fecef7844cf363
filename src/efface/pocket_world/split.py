"""The data split (``data/split.yaml``): retain and held-out objects, dev and test concepts, dev and test seeds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from efface.core.concept import find_mention

from .captions import assemble, noun_phrase
from .world import data_text, load_world


@dataclass(frozen=True)
class TestConcept:
    """A concept to erase and the objects or style on which its erasure is measured.

    Attributes:
        name: name of the concept.
        split: ``dev`` or ``test``.
        kind: kind of the concept, as in `Concept.kind`.
        members: object ids of the concept's domain.
        near: object ids of its near neighbours.
        style: id of the style; None for other kinds.
    """

    name: str
    split: str
    kind: str
    members: tuple[str, ...]
    near: tuple[str, ...]
    style: str | None = None


@dataclass(frozen=True)
class Split:
    """The data split.

    Attributes:
        version: number that every change raises.
        retain: objects that retain prompts may use.
        heldout: objects that only evaluation may use.
        concepts: the concepts by name.
        seeds: seed ranges of ``dev`` and ``test``.
    """

    version: int
    retain: tuple[str, ...]
    heldout: tuple[str, ...]
    concepts: dict[str, TestConcept]
    seeds: dict[str, range]

    def retain_for(self, concept: str) -> tuple[str, ...]:
        """Returns the objects that the concept's retain prompts may use: none of its members, none of its category."""
        target, classes = self.concepts[concept], load_world().object_classes
        excluded = {classes[member].category for member in target.members if target.kind == "domain"}
        return tuple(o for o in self.retain if o not in target.members and classes[o].category not in excluded)


def _parse_concept(name: str, split: str, raw: dict[str, Any]) -> TestConcept:
    members = raw.get("members") or ([raw["object"]] if "object" in raw else [])
    return TestConcept(name, split, raw["kind"], tuple(members), tuple(raw.get("near", ())), raw.get("style"))


@cache
def load_split() -> Split:
    """Loads the split from ``data/split.yaml``."""
    raw = yaml.safe_load(data_text("split.yaml"))
    concepts = {
        name: _parse_concept(name, split, fields)
        for split, group in raw["concepts"].items()
        for name, fields in group.items()
    }
    seeds = {split: range(bounds["start"], bounds["stop"]) for split, bounds in raw["seeds"].items()}
    return Split(raw["version"], tuple(raw["retain"]), tuple(raw["heldout"]), concepts, seeds)


@cache
def retain_prompts(concept: str | None = None) -> tuple[str, ...]:
    """Returns 32 retain prompts: the retain objects, and every place and style without an object.

    Args:
        concept: a concept of the split; its category of objects and its style are left out.
    """
    world, split = load_world(), load_split()
    objects = split.retain_for(concept) if concept else split.retain
    excluded_style = split.concepts[concept].style if concept else None
    styles = [style for style in world.styles.values() if style.id != excluded_style]
    places = list(world.backgrounds.values())
    nouns = [_retain_noun(name) for name in objects]
    with_object = [
        assemble(noun, places[i % len(places)].phrases[0], styles[i % len(styles)].prefixes[0], "")
        for i, noun in enumerate(nouns)
    ]
    empty = [assemble(p.alone[0], "", s.prefixes[0], "") for p, s in zip(places, styles * 2, strict=False)]
    empty += [assemble(p.alone[1], "", s.prefixes[0], "") for p, s in zip(places, styles[1:] * 2, strict=False)]
    photos = [assemble(noun, "", "a photo of", "") for noun in nouns]
    return tuple((with_object + empty + photos)[:32])


def broad_retain_prompts(each: int = 6) -> tuple[str, ...]:
    """Returns retain prompts of every retain object in several places and styles.

    Erasing many concepts at once needs them: `retain_prompts` is too few to retain what the concepts have in common.

    Args:
        each: number of prompts for each object.
    """
    world = load_world()
    places, styles = list(world.backgrounds.values()), list(world.styles.values())
    prompts = []
    for i, name in enumerate(load_split().retain):
        for j in range(each):
            place = "" if j % 3 == 2 else places[(i + j) % len(places)].phrases[0]
            style = styles[(i + 2 * j + j // 3) % len(styles)]
            prompts.append(assemble(_retain_noun(name), place, style.prefixes[0], ""))
    return tuple(prompts)


@cache
def _retain_noun(object_id: str) -> str:
    """Returns the noun phrase of the object's first name without a scored object's word ("fork and knife" has one)."""
    world, split = load_world(), load_split()
    scored = [
        word
        for other, item in world.object_classes.items()
        if other not in split.retain
        for word in (*item.names, *item.rare)
    ]
    object_class = world.object_classes[object_id]
    name = next(name for name in object_class.names if find_mention(name, scored) is None)
    return noun_phrase(object_class, name)
