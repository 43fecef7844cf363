"""Concepts and settings from a command's arguments."""

from __future__ import annotations

import pytest

from efface.cli.parsing import ConceptOptions, build_concept, build_concepts, parse_settings
from efface.core.builtin_concepts import get_entry
from efface.core.concept import Concept
from efface.core.errors import EffaceError


def test_a_bundled_model_does_not_use_built_in_concepts():
    no_options = ConceptOptions()
    assert build_concept("weapon", no_options, "pocket") == Concept("weapon")
    assert build_concept("weapon", no_options, "pocket-sibling") == Concept("weapon")
    assert build_concept("weapon", no_options, "some/folder") == get_entry("weapon").concept


def test_retain_prompts_may_contain_the_name_within_a_word(tmp_path):
    (tmp_path / "retain.txt").write_text("gunpowder\n\n a begun day \nguns\n")
    concept = build_concept("gun", ConceptOptions(retain_file=tmp_path / "retain.txt"))
    assert concept.retain_prompts == ("gunpowder", "a begun day", "guns")


def test_the_first_of_several_concepts_holds_the_retain_prompts(tmp_path):
    (tmp_path / "retain.txt").write_text("a dog\n")
    (tmp_path / "names.txt").write_text("tench\n")
    options = ConceptOptions(retain_file=tmp_path / "retain.txt")
    first, second = build_concepts(["gun"], tmp_path / "names.txt", options, None).concepts
    assert first == Concept("gun", retain_prompts=("a dog",))
    assert second == Concept("tench"), "a name from a file is not a built-in concept"


def test_settings_keep_equals_signs_in_the_value():
    assert parse_settings(["steps = 3", "phrases=a=b,c"]) == {"steps": "3", "phrases": "a=b,c"}
    assert parse_settings(None) == {}
    with pytest.raises(EffaceError, match="--set 'steps' is not of the form name=value"):
        parse_settings(["steps"])


def test_a_retain_file_without_prompts_is_refused(tmp_path):
    (tmp_path / "retain.txt").write_text("\n  \n")
    with pytest.raises(EffaceError, match=r"retain\.txt holds no retain prompts: write one per line"):
        build_concept("gun", ConceptOptions(retain_file=tmp_path / "retain.txt"))
