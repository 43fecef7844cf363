"""Files of coreferents and retained words, and their contradictions."""

from __future__ import annotations

from pathlib import Path

import pytest

from efface.core.concept import Concept
from efface.core.coreferences import (
    Coreferences,
    coreferences_yaml,
    rank_words,
    read_coreferences,
    without_contradictions,
)
from efface.core.errors import EffaceError

GUN = Concept("gun", synonyms=("pistol",), retain_prompts=("a red bow",))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "words.yaml"
    path.write_text(text)
    return path


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    words = {"gun": Coreferences({"rifle": 1, "toy gun": 0.2}, {"camera": 0.8})}
    assert read_coreferences(written(tmp_path, coreferences_yaml(words)), [GUN]) == words


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[rifle]", "must map each concept"),
        ("axe: {}", "has no concept 'gun', only axe"),
        ("gun: [rifle]", "needs a mapping with coreferents and retained"),
        ("gun: {coreferents: {rifle: 1}, retained: {}}", "retained are missing"),
        ("gun: {coreferents: {rifle: 1}, kept: {cat: 1}}", "retained"),
        ("gun: {coreferents: {rifle: 2}, retained: {cat: 1}}", "the certainty of 'rifle' is 2: give a number"),
        ("gun: {coreferents: {rifle: yes}, retained: {cat: 1}}", "certainty of 'rifle' is True"),
        ("gun: {coreferents: {rifle: 1}, retained: {toy rifle: 1}}", "'toy rifle' of 'gun' contains 'rifle'"),
        ("gun: {coreferents: {rifle: 1}, retained: {Pistol grip: 1}}", "contains 'pistol', which is erased"),
        ("gun: {coreferents: {bow: 1}, retained: {cat: 1}}", "'bow' of 'gun' is in the retain prompt 'a red bow'"),
    ],
)
def test_a_bad_file_is_refused_with_its_name(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(EffaceError, match=message) as caught:
        read_coreferences(path, [GUN])
    assert str(caught.value).startswith(str(path))


def test_the_words_of_two_concepts_must_not_contradict(tmp_path: Path) -> None:
    text = "gun: {coreferents: {rifle: 1}, retained: {hammer: 1}}\naxe: {coreferents: {hammer: 1}, retained: {cat: 1}}"
    with pytest.raises(EffaceError, match="'hammer' of 'gun' contains 'hammer', which is erased"):
        read_coreferences(written(tmp_path, text), [GUN, Concept("axe")])


def test_a_proposal_loses_its_contradictions_with_a_warning() -> None:
    proposal = {"gun": ({"rifle": 1.0, "bow": 0.4}, {"camera": 1.0, "rifle butt": 0.2})}
    with pytest.warns(UserWarning, match="bow, rifle butt"):
        words = without_contradictions(proposal, [GUN])
    assert words == {"gun": Coreferences({"rifle": 1.0}, {"camera": 1.0})}


def test_the_first_fifth_of_the_words_is_the_most_certain() -> None:
    assert list(rank_words("abcdefghij").values()) == [1.0, 1.0, 0.8, 0.8, 0.6, 0.6, 0.4, 0.4, 0.2, 0.2]
    assert rank_words("a") == {"a": 1.0}
