"""The grammar of captions: what is drawn, where, and how, in many words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .world import NOTHING, ObjectClass, Scene, World

NOUN_KINDS = ("name", "hypernym", "hypernym_name", "attribute", "implicit")
NOUN_WEIGHTS = (0.52, 0.18, 0.06, 0.10, 0.14)
RARE_SHARE = 0.12  # of the captions that name an object, those that use a rare synonym


def article(noun: str) -> str:
    """``noun`` with its indefinite article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def noun_phrase(thing: ObjectClass, noun: str, adjective: str = "") -> str:
    """``noun`` (a word for ``thing``) as a phrase: "a cat", "santa claus", "a deadly axe"."""
    phrase = f"{adjective} {noun}".strip()
    if thing.plural or (thing.proper and noun in (*thing.names, *thing.rare)):
        return phrase
    return article(phrase)


def name_of(thing: ObjectClass, rng: np.random.Generator) -> str:
    """A word for ``thing``: its primary name half of the time, seldom a rare synonym."""
    if thing.rare and rng.random() < RARE_SHARE:
        return _pick(rng, thing.rare)
    return thing.name if rng.random() < 0.5 else _pick(rng, thing.names)


def subject(world: World, thing: ObjectClass, kind: str, rng: np.random.Generator) -> str:
    """The part of a caption that says which object is there; ``kind`` is one of :data:`NOUN_KINDS`."""
    category = world.categories[thing.category]
    if kind == "hypernym":
        return article(_pick(rng, category.hypernyms))
    if kind == "hypernym_name":
        return f"{article(_pick(rng, category.hypernyms))}, {noun_phrase(thing, name_of(thing, rng))}"
    if kind == "attribute":
        return noun_phrase(thing, name_of(thing, rng), _pick(rng, category.attributes + thing.attributes))
    if kind == "implicit":
        own = thing.implicit if rng.random() < 0.75 else category.implicit
        return _pick(rng, own)
    return noun_phrase(thing, name_of(thing, rng))


def assemble(what: str, where: str, prefix: str, suffix: str) -> str:
    """Style phrase, subject, place and style phrase in one caption; empty parts are left out."""
    text = " ".join(part for part in (prefix, what, where) if part)
    return f"{text}, {suffix}" if suffix else text


def caption(
    world: World, scene: Scene, rng: np.random.Generator, *, kind: str | None = None, where: float = 0.75
) -> str:
    """A caption of ``scene``. The place is named with probability ``where``; a style other than photo is always named."""
    style, background = world.styles[scene.style], world.backgrounds[scene.background]
    after = bool(style.suffixes) and rng.random() < 0.5
    prefix = "" if after else _pick(rng, style.prefixes)
    suffix = _pick(rng, style.suffixes) if after else ""
    if scene.object == NOTHING:
        return assemble(_pick(rng, background.alone), "", prefix, suffix)
    kind = kind or str(rng.choice(NOUN_KINDS, p=NOUN_WEIGHTS))
    place = ""
    if rng.random() < where:
        place = _pick(rng, background.rare) if rng.random() < RARE_SHARE else _pick(rng, background.phrases)
    return assemble(subject(world, world.things[scene.object], kind, rng), place, prefix, suffix)


def vocabulary(world: World) -> list[str]:
    """Every word that a caption can have, sorted."""
    words = {"a", "an"}
    for thing in world.things.values():
        words.update(" ".join((*thing.names, *thing.rare, *thing.implicit, *thing.attributes)).split())
    for category in world.categories.values():
        words.update(" ".join((*category.hypernyms, *category.attributes, *category.implicit)).split())
    for background in world.backgrounds.values():
        words.update(" ".join((*background.phrases, *background.rare, *background.alone)).split())
    for style in world.styles.values():
        words.update(" ".join((*style.prefixes, *style.suffixes)).split())
    return sorted(words)
