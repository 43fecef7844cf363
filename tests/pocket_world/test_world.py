from __future__ import annotations

import numpy as np
import pytest

from efface.pocket_world import Scene, caption, load_split, load_world, vocabulary
from efface.pocket_world.captions import NOUN_KINDS, noun_phrase

WORLD, SPLIT = load_world(), load_split()


def test_world_is_as_large_as_promised():
    assert len(WORLD.things) >= 56
    assert len(WORLD.categories) >= 9
    assert len(WORLD.backgrounds) >= 6
    assert len(WORLD.styles) >= 6
    assert sum(len(t.names) + len(t.rare) >= 2 for t in WORLD.things.values()) == len(WORLD.things)
    assert set(WORLD.members("weapon")) == {"knife", "dagger", "pistol", "bomb", "axe", "bow", "swords"}


def test_no_word_means_two_objects():
    owner: dict[str, str] = {}
    for thing in WORLD.things.values():
        for name in (*thing.names, *thing.rare):
            assert owner.setdefault(name, thing.id) == thing.id


def test_heldout_combinations_are_a_tenth_and_disjoint():
    held, seen = WORLD.scenes(heldout=True), WORLD.scenes(heldout=False)
    assert not set(held) & set(seen)
    assert 0.07 < len(held) / (len(held) + len(seen)) < 0.13
    assert {s.style for s in held} == set(WORLD.styles)
    assert {s.background for s in held} == set(WORLD.backgrounds)


def test_split_leaks_nothing():
    assert not set(SPLIT.retain) & set(SPLIT.heldout)
    assert set(SPLIT.retain) | set(SPLIT.heldout) <= set(WORLD.things)
    scored = {*SPLIT.heldout, *(m for name in ("weapon", "vice") for m in SPLIT.concepts[name].members)}
    for concept in SPLIT.concepts.values():
        assert not set(concept.near) & set(SPLIT.retain), concept.name
        assert set(concept.near) <= scored, "objects of no retain set"
        assert not set(SPLIT.retain_for(concept.name)) & {*concept.members, *concept.near}
        assert len(SPLIT.retain_for(concept.name)) >= 12
    for name in ("weapon", "vice"):
        assert not set(SPLIT.concepts[name].members) & {*SPLIT.retain, *SPLIT.heldout}
    dev, test = SPLIT.seeds["dev"], SPLIT.seeds["test"]
    assert not set(dev) & set(test)
    assert {c.part for c in SPLIT.concepts.values()} == {"dev", "test"}


def test_captions_say_the_style_and_hypernyms_alone_are_common():
    rng = np.random.default_rng(0)
    texts = [caption(WORLD, Scene("dagger", "snow", "mosaic"), rng) for _ in range(2000)]
    assert all("mosaic" in t or "gaudi" in t for t in texts)
    names = (*WORLD.things["dagger"].names, *WORLD.things["dagger"].rare)
    nameless = [t for t in texts if not any(n in t for n in names)]
    hypernym = [t for t in nameless if "weapon" in t or "armament" in t]
    assert 0.15 < len(hypernym) / len(texts) < 0.22
    words = set(vocabulary(WORLD))
    assert all(set(t.replace(",", "").split()) <= words for t in texts)


@pytest.mark.parametrize("kind", NOUN_KINDS)
def test_each_kind_of_caption(kind):
    text = caption(WORLD, Scene("santa", "city", "photo"), np.random.default_rng(5), kind=kind)
    assert text


def test_articles():
    things = WORLD.things
    assert noun_phrase(things["axe"], "axe") == "an axe"
    assert noun_phrase(things["santa"], "santa claus") == "santa claus"
    assert noun_phrase(things["scissors"], "scissors") == "scissors"
    assert noun_phrase(things["axe"], "axe", "deadly") == "a deadly axe"
