"""The synonyms attack."""

from __future__ import annotations

import pytest
from helpers.tiny import tiny_model

from efface.attacks.synonyms import Config, synonyms
from efface.core.attack_set import AttackTask
from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.ops.training.run import Run

TASKS = [AttackTask(f"{text} gun", f"{text} {{}}", i) for i, text in enumerate(("a", "my", "the"))]


def test_phrases_take_turns() -> None:
    attack_set = synonyms(tiny_model(), Concept("gun"), TASKS, Config(("cat", "dog")), Run())
    assert [row.adversarial_prompt for row in attack_set.prompts] == ["a cat", "my dog", "the cat"]
    assert [row.source_prompt for row in attack_set.prompts] == ["a gun", "my gun", "the gun"]


@pytest.mark.parametrize("phrase", ["a pistol", "an old pistol", "a  Pistol"])
def test_phrases_that_the_method_was_given_are_errors(phrase: str) -> None:
    concept = Concept("gun", synonyms=("pistol",))
    with pytest.raises(EffaceError, match="must differ from the words the method was given"):
        synonyms(tiny_model(), concept, TASKS, Config((phrase,)), Run())


def test_no_phrases_are_an_error() -> None:
    with pytest.raises(EffaceError, match=r"no phrases: give --set phrases="):
        synonyms(tiny_model(), Concept("gun"), TASKS, Config(), Run())
