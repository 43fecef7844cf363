"""The grammar of captions: phrases for a scene's object, place and style."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .world import NOTHING, ObjectClass, Scene, World

NOUN_KINDS = ("name", "hypernym", "hypernym_name", "attribute", "implicit")
NOUN_WEIGHTS = (0.52, 0.18, 0.06, 0.10, 0.14)
RARE_SHARE = 0.12  # of the captions that name an object, those that use a rare synonym


def with_article(noun: str) -> str:
    """Returns the noun with its indefinite article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def noun_phrase(object_class: ObjectClass, noun: str, adjective: str = "") -> str:
    """Returns a word for the object as a phrase, such as "a cat", "santa claus" or "a deadly axe"."""
    phrase = f"{adjective} {noun}".strip()
    if object_class.plural or (object_class.proper and noun in (*object_class.names, *object_class.rare)):
        return phrase
    return with_article(phrase)


def sample_name(object_class: ObjectClass, rng: np.random.Generator) -> str:
    """Samples a word for the object: the primary name half of the time, seldom a rare synonym."""
    if object_class.rare and rng.random() < RARE_SHARE:
        return _pick(rng, object_class.rare)
    return object_class.name if rng.random() < 0.5 else _pick(rng, object_class.names)


def subject_phrase(world: World, object_class: ObjectClass, kind: str, rng: np.random.Generator) -> str:
    """Samples the part of a caption that describes the object; ``kind`` is one of :data:`NOUN_KINDS`."""
    category = world.categories[object_class.category]
    if kind == "hypernym":
        return with_article(_pick(rng, category.hypernyms))
    if kind == "hypernym_name":
        hypernym = with_article(_pick(rng, category.hypernyms))
        return f"{hypernym}, {noun_phrase(object_class, sample_name(object_class, rng))}"
    if kind == "attribute":
        name = sample_name(object_class, rng)
        return noun_phrase(object_class, name, _pick(rng, category.attributes + object_class.attributes))
    if kind == "implicit":
        descriptions = object_class.implicit if rng.random() < 0.75 else category.implicit
        return _pick(rng, descriptions)
    return noun_phrase(object_class, sample_name(object_class, rng))


def assemble(subject: str, place: str, prefix: str, suffix: str) -> str:
    """Joins style prefix, subject, place and style suffix to a caption; leaves out empty parts."""
    text = " ".join(part for part in (prefix, subject, place) if part)
    return f"{text}, {suffix}" if suffix else text


def caption(
    world: World, scene: Scene, rng: np.random.Generator, *, kind: str | None = None, place_probability: float = 0.75
) -> str:
    """Samples a caption of a scene.

    A style other than photo is always named.

    Args:
        world: the vocabulary.
        scene: object, background and style.
        rng: the only source of randomness.
        kind: kind of the subject, one of :data:`NOUN_KINDS`; sampled by default.
        place_probability: probability that the caption names the place.
    """
    style, background = world.styles[scene.style], world.backgrounds[scene.background]
    use_suffix = bool(style.suffixes) and rng.random() < 0.5
    prefix = "" if use_suffix else _pick(rng, style.prefixes)
    suffix = _pick(rng, style.suffixes) if use_suffix else ""
    if scene.object == NOTHING:
        return assemble(_pick(rng, background.alone), "", prefix, suffix)
    kind = kind or str(rng.choice(NOUN_KINDS, p=NOUN_WEIGHTS))
    place = ""
    if rng.random() < place_probability:
        place = _pick(rng, background.rare) if rng.random() < RARE_SHARE else _pick(rng, background.phrases)
    return assemble(subject_phrase(world, world.object_classes[scene.object], kind, rng), place, prefix, suffix)


def vocabulary(world: World) -> list[str]:
    """Returns every word that a caption can contain, sorted."""
    words = {"a", "an"}
    for item in world.object_classes.values():
        words.update(" ".join((*item.names, *item.rare, *item.implicit, *item.attributes)).split())
    for category in world.categories.values():
        words.update(" ".join((*category.hypernyms, *category.attributes, *category.implicit)).split())
    for background in world.backgrounds.values():
        words.update(" ".join((*background.phrases, *background.rare, *background.alone)).split())
    for style in world.styles.values():
        words.update(" ".join((*style.prefixes, *style.suffixes)).split())
    return sorted(words)
