"""Files of concepts: efface's own YAML, LECO's prompt settings, and names one a line."""

from __future__ import annotations

import warnings

import pytest

from efface.api.validation import coerce_concepts
from efface.cli.parsing import ConceptOptions, build_concepts
from efface.core.concept import Concept
from efface.core.concept_files import read_concept_file
from efface.core.errors import EffaceError

LECO = """\
- target: "van gogh"
  positive: "van gogh"
  unconditional: ""
  neutral: "a painting"
  action: "erase"
  guidance_scale: 2.0
  resolution: 512
  dynamic_resolution: false
  batch_size: 2
- target: "church"
"""


def read(tmp_path, text, name="c.yaml"):
    (tmp_path / name).write_text(text)
    return read_concept_file(tmp_path / name)


def test_leco_prompt_settings_are_concepts_and_settings(tmp_path):
    with pytest.warns(UserWarning, match="resolution, dynamic_resolution not used: a model has one resolution"):
        content = read(tmp_path, LECO)
    assert content.concepts == (Concept("van gogh", anchor="a painting"), Concept("church"))
    assert content.settings == {"negative_guidance": 2.0, "batch_size": 2}
    assert content.settings_for("esd") == content.settings
    with pytest.warns(UserWarning, match="uce has no setting negative_guidance and batch_size"):
        assert content.settings_for("uce") == {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = ConceptOptions(synonyms=("vincent",))
        described = build_concepts([str(tmp_path / "c.yaml"), "gun"], None, options)
        assert [concept.name for concept in described.concepts] == ["van gogh", "church", "gun"]
        assert described.concepts[0] == Concept("van gogh", anchor="a painting", synonyms=("vincent",))
        assert described.settings == content.settings
        assert build_concepts([], tmp_path / "c.yaml", ConceptOptions()).concepts == content.concepts
        assert coerce_concepts([tmp_path / "c.yaml", "gun"]).concepts == (*content.concepts, Concept("gun"))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("action: enhance", r"entry 1: the action 'enhance' is not supported: efface erases \(action: erase\)"),
        ("positive: red hair", "target 'cat' and positive 'red hair' differ"),
        ("unconditional: dog", None),
        ("unconditional: dog\n  neutral: animal", "unconditional 'dog' is not supported"),
        ("multiplier: 2", "unknown LECO field 'multiplier'"),
        ("neutral: 7", "neutral must be text, not 7"),
    ],
)
def test_leco_entries_that_no_erasure_is_equal_to_are_refused(entry, message, tmp_path):
    text = f"- target: cat\n  {entry}\n"
    if message is None:
        assert read(tmp_path, text).concepts == (Concept("cat", anchor="dog"),)
        return
    with pytest.raises(EffaceError, match=message) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_files_of_several_concepts(tmp_path):
    assert read(tmp_path, "name: cat\nanchor: dog\n").concepts == (Concept("cat", anchor="dog"),)
    assert read(tmp_path, "- name: cat\n- name: gun\n").concepts == (Concept("cat"), Concept("gun"))
    assert read(tmp_path, "target: cat\n").concepts == (Concept("cat"),)
    assert read(tmp_path, "cat\n\n gun \n", "c.txt").concepts == (Concept("cat"), Concept("gun"))
    for text, message in (
        ("- target: cat\n- name: dog\n", "mixes efface's concepts"),
        ("- target: cat\n  batch_size: 1\n- target: dog\n  batch_size: 2\n", "batch_size is 2, elsewhere 1"),
        ("prompts_file: prompts.yaml\n", r"is a trainer's configuration: give its prompts_file \('prompts\.yaml'\)"),
        ("[]", "names no concept"),
        ("- gun\n", "a list with 'gun': each concept must be a mapping"),
        ("{", "is not valid YAML"),
    ):
        with pytest.raises(EffaceError, match=message):
            read(tmp_path, text)
    with pytest.raises(EffaceError, match="names no concept: write one name per line"):
        read(tmp_path, "\n", "c.txt")
