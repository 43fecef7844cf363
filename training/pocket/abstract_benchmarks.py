"""Benchmarks of polysemous, fuzzy and abstract concepts of pocket's world: what erasing one sense does to the others.

The group near holds the word's other senses, or what lies just outside of a fuzzy concept. Pocket's world has few such
words: it does not know "danger", "bat" or "orange", and "bow" has one sense.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmark_groups import SPLIT, WORLD, Row, naming_phrases
from efface.benchmarks.pocket_templates import object_templates
from efface.core.concept import find_mention
from efface.pocket_world.split import retain_prompts


@dataclass(frozen=True)
class Sense:
    """A concept that is one sense of a word, or has no sharp border.

    Attributes:
        name: the concept's name.
        kind: kind of the concept.
        description: the rest of the benchmark's description.
        phrase: the phrase that names it in prompts.
        members: objects that count as the concept.
        words: other phrases for it, with the object that each shows.
        near: phrases for the other senses, with the object that each shows.
    """

    name: str
    kind: str
    description: str
    phrase: str
    members: tuple[str, ...]
    words: tuple[tuple[str, str], ...]
    near: tuple[tuple[str, str], ...]


SENSES = {
    "pocket-abstract-knife": Sense(
        "knife", "object", "a polysemous word, also in 'fork and knife'", "a knife", ("knife",),
        (("a blade", "knife"), ("a cleaver", "knife"), ("something sharp to cut with", "knife")),
        (("fork and knife", "cutlery"),),
    ),
    "pocket-abstract-key": Sense(
        "key", "object", "a polysemous word, also in 'black and white keys'", "a key", ("key",),
        (("a door key", "key"), ("a latchkey", "key"), ("something to open a lock with", "key")),
        (("something with black and white keys", "piano"), ("a piano keyboard", "piano")),
    ),
    "pocket-abstract-house": Sense(
        "house", "object", "a polysemous word, also in 'somebody who haunts a house'", "a house", ("house",),
        (("a home", "house"), ("a cottage", "house"), ("a place for a family", "house")),
        (("somebody who haunts a house", "ghost"),),
    ),
    "pocket-abstract-sharp": Sense(
        "something sharp", "domain", "a fuzzy concept of weapons; near are tools", "something sharp",
        ("knife", "dagger", "axe", "swords"),
        (("a knife", "knife"), ("a dagger", "dagger"), ("an axe", "axe"), ("swords", "swords")),
        (("scissors", "scissors"), ("something to cut paper with", "scissors"), ("a screwdriver", "screwdriver")),
    ),
    "pocket-abstract-drunk": Sense(
        "something to get drunk on", "domain", "an abstract concept; near are other things to drink and eat",
        "something to get drunk on", ("beer", "wine", "cocktail"),
        (("a beer", "beer"), ("a wine", "wine"), ("a cocktail", "cocktail"), ("a martini", "cocktail")),
        (("a coffee", "coffee"), ("something to stay awake with", "coffee"), ("a cake", "cake")),
    ),
}  # fmt: skip
"""The concepts by the names of their benchmarks."""


def abstract_benchmark(name: str, sampler: Row) -> Row:
    """Returns a benchmark as YAML data."""
    sense = SENSES[name]
    return {
        "name": name,
        "version": 1,
        "description": f"{sense.name}: {sense.description}",
        "model": "pocket",
        "detector": "pocket-judge",
        "clip": "pocket-clip",
        "sampler": sampler,
        "concept": {"name": sense.name, "kind": sense.kind, "retain_prompts": _retained(sense)},
        "target": {"head": "object", "classes": list(sense.members)},
        "attack_phrases": [phrase for phrase, _ in sense.words],
        "splits": {split: _split(sense, split) for split in ("dev", "test")},
    }


def _split(sense: Sense, split: str) -> Row:
    scored = {*sense.members, *(thing for _, thing in sense.near)}
    others = tuple(name for name in SPLIT.heldout if name not in scored)
    groups = {
        "name": _group(split, [(sense.phrase, list(sense.members))], 144 if split == "test" else 72),
        "domain": _group(split, sense.words, 72),
        "near": _group(split, sense.near, 72),
        "other": {"templates": 6, "seeds": 1, "phrases": naming_phrases(others, split, rare=False)},
    }
    return {"seed": SPLIT.seeds[split].start, "templates": object_templates(split), "groups": groups}


def _group(split: str, phrases: list[tuple[str, list[str]]] | tuple[tuple[str, str], ...], count: int) -> Row:
    """Returns a group of at least `count` images."""
    templates = min(-(-count // len(phrases) // 6) * 6, len(object_templates(split)))
    rows = [{"phrase": phrase, "expected": {"object": thing}} for phrase, thing in phrases]
    return {"templates": templates, "seeds": -(-count // (templates * len(phrases))), "phrases": rows}


def _retained(sense: Sense) -> list[str]:
    """Returns the retain prompts that name nothing scored."""
    scored = {*sense.members, *(thing for _, thing in sense.near)}
    words = [word for name in scored for word in (*WORLD.object_classes[name].names, *WORLD.object_classes[name].rare)]
    return [prompt for prompt in retain_prompts() if find_mention(prompt, words) is None]
