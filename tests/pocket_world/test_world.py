"""The vocabulary, the data split and the captions of pocket's scenes."""

from __future__ import annotations

import numpy as np
import pytest

from efface.pocket_world import Scene, caption, load_split, load_world, vocabulary
from efface.pocket_world.captions import NOUN_KINDS, noun_phrase

WORLD, SPLIT = load_world(), load_split()


def test_the_vocabulary_has_the_documented_size():
    assert len(WORLD.object_classes) >= 56
    assert len(WORLD.categories) >= 9
    assert len(WORLD.backgrounds) >= 6
    assert len(WORLD.styles) >= 6
    assert sum(len(t.names) + len(t.rare) >= 2 for t in WORLD.object_classes.values()) == len(WORLD.object_classes)
    assert set(WORLD.members("weapon")) == {"knife", "dagger", "pistol", "bomb", "axe", "bow", "swords"}


def test_no_word_names_two_objects():
    owner: dict[str, str] = {}
    for item in WORLD.object_classes.values():
        for name in (*item.names, *item.rare):
            assert owner.setdefault(name, item.id) == item.id


def test_heldout_combinations_are_a_tenth_and_disjoint():
    heldout, rendered = WORLD.scenes(heldout=True), WORLD.scenes(heldout=False)
    assert not set(heldout) & set(rendered)
    assert 0.07 < len(heldout) / (len(heldout) + len(rendered)) < 0.13
    assert {s.style for s in heldout} == set(WORLD.styles)
    assert {s.background for s in heldout} == set(WORLD.backgrounds)


def test_no_scored_object_is_in_the_retain_prompts():
    assert not set(SPLIT.retain) & set(SPLIT.heldout)
    assert set(SPLIT.retain) | set(SPLIT.heldout) <= set(WORLD.object_classes)
    scored = {*SPLIT.heldout, *(m for name in ("weapon", "vice") for m in SPLIT.concepts[name].members)}
    for concept in SPLIT.concepts.values():
        assert not set(concept.near) & set(SPLIT.retain), concept.name
        assert set(concept.near) <= scored, "near objects are in no retain prompts"
        assert not set(SPLIT.retain_for(concept.name)) & {*concept.members, *concept.near}
        assert len(SPLIT.retain_for(concept.name)) >= 12
    for name in ("weapon", "vice"):
        assert not set(SPLIT.concepts[name].members) & {*SPLIT.retain, *SPLIT.heldout}
    dev, test = SPLIT.seeds["dev"], SPLIT.seeds["test"]
    assert not set(dev) & set(test)
    assert {c.split for c in SPLIT.concepts.values()} == {"dev", "test"}


def test_captions_name_the_style_and_often_only_a_hypernym():
    rng = np.random.default_rng(0)
    texts = [caption(WORLD, Scene("dagger", "snow", "mosaic"), rng) for _ in range(2000)]
    assert all("mosaic" in t or "gaudi" in t for t in texts)
    names = (*WORLD.object_classes["dagger"].names, *WORLD.object_classes["dagger"].rare)
    nameless = [t for t in texts if not any(n in t for n in names)]
    hypernym = [t for t in nameless if "weapon" in t or "armament" in t]
    assert 0.15 < len(hypernym) / len(texts) < 0.22
    words = set(vocabulary(WORLD))
    assert all(set(t.replace(",", "").split()) <= words for t in texts)


@pytest.mark.parametrize("kind", NOUN_KINDS)
def test_every_kind_of_caption_uses_words_of_its_object_or_category(kind):
    text = caption(WORLD, Scene("santa", "city", "photo"), np.random.default_rng(5), kind=kind)
    santa = WORLD.object_classes["santa"]
    category = WORLD.categories[santa.category]
    words = (*santa.names, *santa.rare, *santa.implicit, *category.hypernyms, *category.implicit)
    assert any(word in text for word in words)


def test_articles():
    classes = WORLD.object_classes
    assert noun_phrase(classes["axe"], "axe") == "an axe"
    assert noun_phrase(classes["santa"], "santa claus") == "santa claus"
    assert noun_phrase(classes["scissors"], "scissors") == "scissors"
    assert noun_phrase(classes["axe"], "axe", "deadly") == "a deadly axe"
