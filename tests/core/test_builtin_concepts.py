from __future__ import annotations

import pytest

from efface.core.builtin_concepts import get_builtin, get_entry, is_builtin, names
from efface.core.concept import Concept, find_mention, validate_concepts
from efface.core.errors import EffaceError, UnknownNameError

IMAGENETTE = {
    "tench", "English springer", "cassette player", "chain saw", "church", "French horn", "garbage truck", "gas pump", "golf ball",
    "parachute",
}  # fmt: skip


@pytest.mark.parametrize("name", names())
def test_every_entry_is_a_sound_concept_with_a_retain_set_of_its_own(name):
    found = get_entry(name)
    assert found.version >= 1
    assert found.source
    assert len(found.concept.retain_prompts) >= 12
    assert not [prompt for prompt in found.concept.retain_prompts if find_mention(prompt, found.concept.words)]
    assert Concept.from_yaml(found.to_yaml()) == found.concept
    assert f"Version {found.version}" in found.to_yaml().splitlines()[0]


def test_what_the_literature_erases_is_there():
    assert set(names()) >= IMAGENETTE | {"van gogh", "picasso", "monet", "warhol", "rembrandt", "weapon", "nudity"}
    assert sum(get_entry(name).concept.kind == "style" for name in names()) >= 15
    for name in IMAGENETTE:
        assert get_entry(name).concept.kind == "object"
    validate_concepts([get_entry(name).concept for name in ("van gogh", "tench")])


def test_no_retain_set_has_what_papers_score():
    shipped = [get_entry(name).concept for name in names() if get_entry(name).concept.kind in ("style", "object")]
    scored = [word for concept in shipped for word in concept.words]
    for concept in shipped:
        assert not [prompt for prompt in concept.retain_prompts if find_mention(prompt, scored)], concept.name


def test_names_are_exact_but_for_case():
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


def test_what_was_changed_is_not_as_it_ships():
    from dataclasses import replace

    found = get_entry("tench").concept
    assert is_builtin(found)
    assert not is_builtin(replace(found, anchor="trout"))
    assert not is_builtin(Concept("tench"))
