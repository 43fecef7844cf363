"""Plain facts about the world's objects and general facts, as data: what pocket-lm knows.

The facts serve training texts and evaluation only; no method may read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import yaml

from .captions import noun_phrase, with_article
from .world import data_text, load_world

GENERAL = "general"


@dataclass(frozen=True)
class Fact:
    """A fact: a subject, a relation and a value.

    Attributes:
        subject: id of the object, or the subject's phrase of a general fact.
        group: the object's category, or ``"general"``.
        relation: name of the relation, such as ``use`` or ``capital``.
        value: phrase of the value; verb phrases have no "to".
        names: phrases for the subject with their article, the primary one first.
        rare: phrases for the subject that training seldom uses.
        plural: whether the subject's verb is plural.
    """

    subject: str
    group: str
    relation: str
    value: str
    names: tuple[str, ...]
    rare: tuple[str, ...] = ()
    plural: bool = False


def _object_facts(raw: dict[str, dict[str, str]]) -> list[Fact]:
    world, facts = load_world(), []
    for object_id, relations in raw.items():
        item = world.object_classes[object_id]
        names = tuple(noun_phrase(item, name) for name in item.names)
        rare = tuple(noun_phrase(item, name) for name in item.rare)
        kind = with_article(world.categories[item.category].hypernyms[0])
        for relation, value in {"kind": kind, **relations}.items():
            facts.append(Fact(object_id, item.category, relation, value, names, rare, item.plural))
    return facts


@cache
def load_facts() -> tuple[Fact, ...]:
    """Loads all facts from ``data/facts.yaml``; the kind of an object comes from the world."""
    raw = yaml.safe_load(data_text("facts.yaml"))
    general = [
        Fact(str(subject), GENERAL, relation, str(value), (str(subject),))
        for relation, pairs in raw["general"].items()
        for subject, value in pairs.items()
    ]
    return (*_object_facts(raw["objects"]), *general)
