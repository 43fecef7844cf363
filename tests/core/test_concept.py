"""Concepts: validation with one-line errors, and exact round trips."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from efface.core.concept import TEMPLATES, Concept, fill_templates, find_mention, validate_concepts
from efface.core.errors import EffaceError, UnknownNameError

LETTERS = st.characters(codec="utf-8", categories=("L", "M", "N", "P", "S", "Zs"))
TEXT = st.text(LETTERS, max_size=12).map(lambda text: f"a{text}")


def refused(**fields: object) -> str:
    with pytest.raises(EffaceError) as caught:
        Concept.from_dict(fields)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "prompt", ["a photo of a weapon", "A WEAPON!", "the weapon's edge", "old  blade,new", "a cold\nsteel knife"]
)
def test_a_retain_prompt_with_the_concept_is_refused(prompt: str) -> None:
    message = refused(name="weapon", synonyms=["blade", "cold steel"], retain_prompts=["a cup", prompt])
    assert "retain_prompts" in message
    assert "a cup" not in message


@pytest.mark.parametrize("prompt", ["a photo of weapons", "a bioweapon", "bladed", "a photo of a cup", ""])
def test_a_retain_prompt_with_part_of_a_word_is_fine(prompt: str) -> None:
    assert Concept("weapon", synonyms=("blade",), retain_prompts=(prompt,)).retain_prompts == (prompt,)


def test_matching_ignores_case_width_and_spacing() -> None:
    assert find_mention("die STRASSE bei nacht", ["Straße"]) == "Straße"
    assert find_mention("in \uff36an   gogh's manner", ["Van Gogh"]) == "Van Gogh"
    assert find_mention("c++ code", ["c++"]) == "c++"
    assert find_mention("vans", ["van"]) is None


def test_invalid_fields_are_refused() -> None:
    assert "empty" in refused(name="  ")
    assert "empty" in refused(kind="object")
    assert "{}" in refused(name="cat", templates=["a photo of a cat"])
    assert "list" in refused(name="cat", synonyms="kitten")
    assert "text" in refused(name=3)
    assert "text" in refused(name="cat", prompts=["a", 1])
    assert "anchor" in refused(name="cat", anchor=" CAT ")
    with pytest.raises(UnknownNameError, match="did you mean 'synonyms'"):
        Concept.from_dict({"name": "cat", "synonym": ["kitten"]})


def test_coerce_default_templates_and_rendered_prompts() -> None:
    cat = Concept.coerce("cat")
    assert cat == Concept("cat") == Concept.coerce(cat) == Concept.coerce({"name": "cat", "anchor": None})
    assert cat.templates == TEMPLATES["object"]
    assert Concept("cubism", kind="style").templates == TEMPLATES["style"]
    assert fill_templates(["a {}", "{} and {}"], ["x", "y"]) == ("a x", "x and x", "a y", "y and y")
    assert Concept("cat", synonyms=("kitten", "cat"), templates=("a {}",)).render_prompts() == ("a cat",)
    assert Concept("cat", synonyms=("kitten", "cat")).render_prompts(("kitten",), ("the {}",)) == ("the kitten",)
    assert Concept("cat", synonyms=("kitten", "cat")).words == ("cat", "kitten")


def test_concepts_of_one_run_must_not_contradict_each_other() -> None:
    with pytest.raises(EffaceError, match="twice"):
        validate_concepts([Concept("cat"), Concept("Cat")])
    with pytest.raises(EffaceError, match="dog"):
        validate_concepts([Concept("cat", retain_prompts=("a dog",)), Concept("dog")])
    with pytest.raises(EffaceError, match="no concept"):
        validate_concepts([])


@given(name=TEXT, kind=TEXT, prompts=st.lists(TEXT), synonyms=st.lists(TEXT), anchor=st.just("") | TEXT)
def test_round_trip(name: str, kind: str, prompts: list[str], synonyms: list[str], anchor: str) -> None:
    assume(not any(find_mention(anchor, [word]) for word in (name, *synonyms)))
    concept = Concept(name, kind, tuple(prompts), tuple(synonyms), anchor, templates=("of {}",))
    assert Concept.from_dict(concept.to_dict()) == concept
    assert Concept.from_yaml(concept.to_yaml()) == concept


def test_yaml_files(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    concept = Concept(
        "weapon", "domain", synonyms=("blade", "yes", "null"), anchor="flower", retain_prompts=("a cup: blue",)
    )
    concept.save(path)
    assert Concept.from_yaml(path) == concept
    for bad, message in [
        ("[a, b]", "mapping"),
        ("name: [", "valid YAML"),
        ("!!python/object:os.system {}", "valid YAML"),
        ("c.yaml", "mapping"),
    ]:
        with pytest.raises(EffaceError, match=message) as caught:
            Concept.from_yaml(bad)
        assert "\n" not in str(caught.value)
    with pytest.raises(EffaceError, match=r"cannot read .*none\.yaml"):
        Concept.from_yaml(tmp_path / "none.yaml")
