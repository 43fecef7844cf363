"""Templates, phrases and groups of pocket's benchmarks, from the vocabulary and the data split."""

from __future__ import annotations

from typing import Any

from efface.pocket_world import load_split, load_world
from efface.pocket_world.captions import noun_phrase, with_article
from efface.pocket_world.split import TestConcept

WORLD, SPLIT = load_world(), load_split()
Row = dict[str, Any]


def naming_phrases(object_ids: tuple[str, ...], split: str, *, rare: bool) -> list[Row]:
    """Returns phrases that name objects: primary names for the dev split or without `rare`, else every name."""
    rows = []
    for name in object_ids:
        object_class = WORLD.object_classes[name]
        use_all = split != "dev" and rare
        words = [*object_class.names, *object_class.rare] if use_all else [object_class.name]
        rows += [{"phrase": noun_phrase(object_class, word), "expected": {"object": name}} for word in words]
    return rows


def domain_phrases(concept: TestConcept, split: str) -> list[Row]:
    """Returns phrases for the concept without its name: its members' names, or its synonyms.

    Rare synonyms are in the test split only.
    """
    if concept.kind not in ("object", "identity"):
        return naming_phrases(concept.members, split, rare=True)
    object_class = WORLD.object_classes[concept.members[0]]
    words = [word for word in object_class.names if word != concept.name]
    words += [] if split == "dev" else list(object_class.rare)
    return [{"phrase": noun_phrase(object_class, word), "expected": {"object": object_class.id}} for word in words]


def object_groups(concept: TestConcept, split: str) -> dict[str, Row]:
    """Returns the groups of a benchmark whose concept is an object or a category of objects."""
    members = list(concept.members)
    if concept.kind == "domain":
        name = [{"phrase": with_article(concept.name), "expected": {"object": members}}]
    else:
        phrase = noun_phrase(WORLD.object_classes[members[0]], concept.name)
        name = [{"phrase": phrase, "expected": {"object": members[0]}}]
    domain = domain_phrases(concept, split)
    others = tuple(o for o in SPLIT.heldout if o not in concept.near and o not in concept.members)
    near = naming_phrases(concept.near, split, rare=False)
    return {
        "name": {"templates": 36, "seeds": 4 if split == "test" else 2, "phrases": name},
        "domain": {"templates": max(6, 144 // len(domain) // 6 * 6), "seeds": 1, "phrases": domain},
        "near": {"templates": 36 if len(concept.near) < 4 else 30, "seeds": 1, "phrases": near},
        "other": {"templates": 6, "seeds": 1, "phrases": naming_phrases(others, split, rare=False)},
    }


def style_groups(concept: TestConcept, split: str) -> dict[str, Row]:
    """Returns the groups of a benchmark whose concept is a style: near are the other styles, other are photos."""
    style = WORLD.styles[str(concept.style)]
    expected = {"style": style.id}
    suffixes = style.suffixes[1 if split == "dev" else 0 :]
    synonyms = [f"{prefix} {{}}" for prefix in style.prefixes[1:]] + [f"{{}}, {suffix}" for suffix in suffixes]
    near = [other for other in WORLD.styles.values() if other.id not in (style.id, "photo")]
    name = [{"phrase": f"{style.prefixes[0]} {{}}", "expected": expected}]
    near_phrases = [{"phrase": f"{other.prefixes[0]} {{}}", "expected": {"style": other.id}} for other in near]
    photo = [{"phrase": "a photo of {}", "expected": {"style": "photo"}}]
    return {
        "name": {"templates": 24, "seeds": 6 if split == "test" else 3, "phrases": name},
        "domain": {
            "templates": 24,
            "seeds": 2,
            "phrases": [{"phrase": phrase, "expected": expected} for phrase in synonyms],
        },
        "near": {"templates": 24, "seeds": 1, "phrases": near_phrases},
        "other": {"templates": 24, "seeds": 6, "phrases": photo},
    }


def attack_phrases(concept: TestConcept) -> list[str]:
    """Returns words and descriptions for the concept that no method is given; the synonyms attack tries them."""
    if concept.style:
        style = WORLD.styles[concept.style]
        return [f"{prefix} {{}}" for prefix in style.prefixes[1:]] + [f"{{}}, {suffix}" for suffix in style.suffixes]
    object_class = WORLD.object_classes[concept.members[0]]
    if concept.kind == "domain":
        category = WORLD.categories[object_class.category]
        words = [f"a {attribute} {concept.name}" for attribute in category.attributes]
        words += [with_article(hypernym) for hypernym in category.hypernyms if hypernym != concept.name]
        descriptions = [text for member in concept.members for text in WORLD.object_classes[member].implicit]
        return list(dict.fromkeys([*words, *category.implicit, *descriptions]))
    words = [
        noun_phrase(object_class, word) for word in (*object_class.names, *object_class.rare) if word != concept.name
    ]
    described = [noun_phrase(object_class, concept.name, attribute) for attribute in object_class.attributes]
    return [*words, *object_class.implicit, *described]
