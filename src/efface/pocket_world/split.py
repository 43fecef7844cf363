"""Who may see what: the fixed halves of the objects, dev and test concepts, dev and test seeds (``data/split.yaml``)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from efface.core.concept import find_mention

from .captions import assemble, noun_phrase
from .world import ObjectClass, data_text, load_world


@dataclass(frozen=True)
class TestConcept:
    """A concept to erase and what its erasure is measured on: object ids of its domain and of its near neighbours, or a style."""

    name: str
    part: str
    kind: str
    members: tuple[str, ...]
    near: tuple[str, ...]
    style: str | None = None


@dataclass(frozen=True)
class Split:
    """The split: objects that retain prompts may use, objects that only evaluation may use, concepts and seed ranges by part."""

    version: int
    retain: tuple[str, ...]
    heldout: tuple[str, ...]
    concepts: dict[str, TestConcept]
    seeds: dict[str, range]

    def retain_for(self, concept: str) -> tuple[str, ...]:
        """The objects that a retain set for ``concept`` may use: none of its own category, none that is scored."""
        target = self.concepts[concept]
        taken = {load_world().things[m].category for m in target.members if target.kind == "domain"}
        return tuple(o for o in self.retain if o not in target.members and load_world().things[o].category not in taken)


def _concept(name: str, part: str, raw: dict[str, Any]) -> TestConcept:
    members = raw.get("members") or ([raw["object"]] if "object" in raw else [])
    return TestConcept(name, part, raw["kind"], tuple(members), tuple(raw.get("near", ())), raw.get("style"))


@cache
def load_split() -> Split:
    """The split as shipped."""
    raw = yaml.safe_load(data_text("split.yaml"))
    concepts = {n: _concept(n, part, c) for part, group in raw["concepts"].items() for n, c in group.items()}
    seeds = {part: range(r["start"], r["stop"]) for part, r in raw["seeds"].items()}
    return Split(raw["version"], tuple(raw["retain"]), tuple(raw["heldout"]), concepts, seeds)


@cache
def retain_prompts(concept: str | None = None) -> tuple[str, ...]:
    """32 prompts of what may be used to keep a model as it is: the retain half's objects, and every place and style without an object.

    Args:
        concept: a concept of the split, whose own class of objects and own style are left out; by default nothing is left out.
    """
    world, split = load_world(), load_split()
    objects = split.retain_for(concept) if concept else split.retain
    banned = split.concepts[concept].style if concept else None
    styles = [s for s in world.styles.values() if s.id != banned]
    places = list(world.backgrounds.values())
    nouns = [noun_phrase(world.things[o], _spread_classes(world.things[o])) for o in objects]
    rows = [
        assemble(n, places[i % len(places)].phrases[0], styles[i % len(styles)].prefixes[0], "")
        for i, n in enumerate(nouns)
    ]
    bare = [assemble(p.alone[0], "", s.prefixes[0], "") for p, s in zip(places, styles * 2, strict=False)]
    rest = [assemble(p.alone[1], "", s.prefixes[0], "") for p, s in zip(places, styles[1:] * 2, strict=False)]
    more = [assemble(noun, "", "a photo of", "") for noun in nouns]
    return tuple((rows + bare + rest + more)[:32])


def broad_retain_prompts(each: int = 6) -> tuple[str, ...]:
    """The retain half's objects in several places and styles: for many concepts at once, whose common part fewer sentences do not hold."""
    world, objects = load_world(), load_split().retain
    places, styles = list(world.backgrounds.values()), list(world.styles.values())
    rows = []
    for i, noun in enumerate(noun_phrase(world.things[o], _spread_classes(world.things[o])) for o in objects):
        for j in range(each):
            place = "" if j % 3 == 2 else places[(i + j) % len(places)].phrases[0]
            rows.append(assemble(noun, place, styles[(i + 2 * j + j // 3) % len(styles)].prefixes[0], ""))
    return tuple(rows)


def _spread_classes(thing: ObjectClass) -> str:
    """The first name that has no word of an object that is scored: whoever retains "fork and knife" retains the knife."""
    world, split = load_world(), load_split()
    scored = [
        word for o, other in world.things.items() if o not in split.retain for word in (*other.names, *other.rare)
    ]
    return next(name for name in thing.names if find_mention(name, scored) is None)
