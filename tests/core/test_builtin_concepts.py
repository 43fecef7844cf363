"""The built-in concepts: valid entries, retain prompts without scored concepts, and look-up by name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from efface.core.builtin_concepts import get_builtin, get_entry, is_builtin, names
from efface.core.concept import Concept, find_mention, validate_concepts
from efface.core.errors import EffaceError, UnknownNameError

IMAGENETTE = {
    "tench",
    "English springer",
    "cassette player",
    "chain saw",
    "church",
    "French horn",
    "garbage truck",
    "gas pump",
    "golf ball",
    "parachute",
}


@pytest.mark.parametrize("name", names())
def test_every_entry_is_a_valid_concept_with_its_own_retain_prompts(name):
    entry = get_entry(name)
    assert entry.version >= 1
    assert entry.source
    assert len(entry.concept.retain_prompts) >= 12
    assert not [prompt for prompt in entry.concept.retain_prompts if find_mention(prompt, entry.concept.words)]
    assert Concept.from_yaml(entry.to_yaml()) == entry.concept
    assert f"Version {entry.version}" in entry.to_yaml().splitlines()[0]


def test_the_concepts_of_the_literature_are_included():
    assert set(names()) >= IMAGENETTE | {"van gogh", "picasso", "monet", "warhol", "rembrandt", "weapon", "nudity"}
    assert sum(get_entry(name).concept.kind == "style" for name in names()) >= 15
    for name in IMAGENETTE:
        assert get_entry(name).concept.kind == "object"
    validate_concepts([get_entry(name).concept for name in ("van gogh", "tench")])


def test_retain_prompts_never_name_a_scored_concept():
    shipped = [get_entry(name).concept for name in names() if get_entry(name).concept.kind in ("style", "object")]
    scored = [word for concept in shipped for word in concept.words]
    for concept in shipped:
        assert not [prompt for prompt in concept.retain_prompts if find_mention(prompt, scored)], concept.name


def test_names_must_be_exact_except_for_case():
    assert get_builtin("Van  Gogh") is get_entry("van gogh").concept
    assert get_builtin("gogh") is None
    assert get_builtin("a tench") is None
    with pytest.raises(UnknownNameError, match="did you mean 'picasso'"):
        get_entry("piccasso")


def test_templates_name_nobody_and_are_not_erased():
    for name in ("identity-template", "logo-template"):
        assert get_entry(name).template
        assert get_entry(name).concept.name.isupper()
        with pytest.raises(EffaceError, match="is to be filled in"):
            get_builtin(name)
    assert [name for name in names() if get_entry(name).concept.kind == "identity"] == [
        "identity-template",
        "logo-template",
    ]


def test_a_changed_concept_is_not_built_in():
    concept = get_entry("tench").concept
    assert is_builtin(concept)
    assert not is_builtin(replace(concept, anchor="trout"))
    assert not is_builtin(Concept("tench"))
