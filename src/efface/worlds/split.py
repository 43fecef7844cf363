"""Who may see what: the fixed halves of the objects, dev and test concepts, dev and test seeds (``data/split.yaml``)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from .world import data_text, load_world


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
