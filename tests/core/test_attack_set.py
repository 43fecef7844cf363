from __future__ import annotations

from pathlib import Path

import pytest

from efface.core.attack_set import ATTACK, AttackPrompt, AttackSet, Budget, insert_phrase
from efface.core.concept import Concept
from efface.core.errors import EffaceError


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


def test_damage_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(EffaceError, match="no attack set"):
        AttackSet.load(tmp_path)
    a_set().save(tmp_path / "set")
    path = tmp_path / "set" / ATTACK
    text = path.read_text()
    for wrong, said in (
        (text[:50], "not valid JSON"),
        (text.replace('"schema": 2', '"schema": 9'), "schema"),
        ('{"schema": 2}', "incomplete"),
    ):
        path.write_text(wrong)
        with pytest.raises(EffaceError, match=said):
            AttackSet.load(tmp_path / "set")


def test_an_attack_without_prompts_is_none() -> None:
    with pytest.raises(EffaceError, match="no prompts"):
        AttackSet("synonyms", Concept("gun"), ())


def test_place_takes_the_one_into_the_other() -> None:
    assert insert_phrase("a photo of {} in the snow", "a dagger") == "a photo of a dagger in the snow"
    assert insert_phrase("a cat in the snow", "{}, by gaudi") == "a cat in the snow, by gaudi"
    for frame, phrase in (("a cat", "a dog"), ("{}", "{}")):
        with pytest.raises(EffaceError, match="must have"):
            insert_phrase(frame, phrase)


def test_the_content_policy_keeps_prompts_out(tmp_path: Path) -> None:
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
