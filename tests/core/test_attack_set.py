"""Attack sets: exact round trips, damage, and the content policy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from efface.core.attack_set import ATTACK, AttackPrompt, AttackSet, Budget, SoftPrompt, insert_phrase
from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.tensors import TensorBlob


def a_set() -> AttackSet:
    prompts = (AttackPrompt("a photo of a gun", "a photo of a pistol", 3), AttackPrompt("a gun", "a pistol", 4))
    return AttackSet(
        "synonyms",
        Concept("gun", synonyms=("rifle",)),
        prompts,
        {"phrases": ["a pistol"]},
        Budget(None, 0.5),
        "abc",
        {},
        7,
    )


def test_round_trip(tmp_path: Path) -> None:
    saved = a_set().save(tmp_path / "set")
    assert AttackSet.load(tmp_path / "set") == saved == a_set()
    assert AttackSet.load(tmp_path / "set").folder == tmp_path / "set"


def test_rows_have_the_names_of_the_fields_and_keep_the_embeddings(tmp_path: Path) -> None:
    soft = SoftPrompt(TensorBlob.of(np.arange(6, dtype="f4").reshape(2, 3)), (2, 5))
    row = AttackPrompt("a gun", "a x x", 3, soft, "pistol")
    attack_set = AttackSet("inside_out", Concept("gun"), (row, AttackPrompt("a gun", "a pistol", 4)))
    attack_set.save(tmp_path / "set")
    assert json.loads((tmp_path / "set" / ATTACK).read_text())["prompts"][0] == {
        "source_prompt": "a gun",
        "adversarial_prompt": "a x x",
        "seed": 3,
        "nearest_tokens": "pistol",
        "positions": [2, 5],
    }
    assert AttackSet.load(tmp_path / "set") == attack_set
    with pytest.raises(EffaceError, match="1 positions do not fit"):
        SoftPrompt(soft.embeddings, (2,))


def test_a_damaged_set_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(EffaceError, match="not an attack set"):
        AttackSet.load(tmp_path)
    a_set().save(tmp_path / "set")
    path = tmp_path / "set" / ATTACK
    text = path.read_text()
    for wrong, message in (
        (text[:50], "not valid JSON"),
        (text.replace('"schema": 5', '"schema": 9'), "schema"),
        ('{"schema": 5}', "incomplete"),
    ):
        path.write_text(wrong)
        with pytest.raises(EffaceError, match=message):
            AttackSet.load(tmp_path / "set")


def test_an_attack_set_needs_prompts() -> None:
    with pytest.raises(EffaceError, match="no prompts"):
        AttackSet("synonyms", Concept("gun"), ())


def test_insert_phrase_fills_the_one_with_the_placeholder() -> None:
    assert insert_phrase("a photo of {} in the snow", "a dagger") == "a photo of a dagger in the snow"
    assert insert_phrase("a cat in the snow", "{}, by gaudi") == "a cat in the snow, by gaudi"
    for template, phrase in (("a cat", "a dog"), ("{}", "{}")):
        with pytest.raises(EffaceError, match="exactly one"):
            insert_phrase(template, phrase)


def test_refused_prompts_are_dropped_after_a_search_and_on_loading(tmp_path: Path) -> None:
    wrong = "a " + " ".join(("nude", "child"))
    found = AttackSet("x", Concept("gun"), (AttackPrompt("a gun", wrong, 1), AttackPrompt("a gun", "a pistol", 2)))
    assert [row.adversarial_prompt for row in found.without_refused().prompts] == ["a pistol"]
    assert a_set().without_refused() == a_set()
    with pytest.raises(EffaceError, match="no prompts"):
        AttackSet("x", Concept("gun"), (AttackPrompt("a gun", "a cat", 1, nearest_tokens=wrong),)).without_refused()
    found.save(tmp_path / "set")
    with pytest.raises(EffaceError, match=r"^refused: a prompt of ") as error:
        AttackSet.load(tmp_path / "set")
    assert "nude" not in str(error.value)
