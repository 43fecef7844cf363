"""Words with which a model generates members of a concept's domain."""

from __future__ import annotations

import pytest
from helpers.tiny import tiny_model

from efface.core.concept import Concept
from efface.core.errors import EffaceError, UnknownNameError
from efface.ops.elide.domain_words import MiningConfig, candidate_pool, mine_domain_words

CONCEPT = Concept("gun", retain_prompts=("x",))


def test_candidates_exclude_the_concept_and_the_retain_prompts() -> None:
    model = tiny_model()
    assert set(candidate_pool(model, CONCEPT)) == {"cat", "dog"}
    assert set(candidate_pool(model, Concept("gun", retain_prompts=("a cat",)))) == {"dog"}
    assert set(candidate_pool(model, Concept("gun", synonyms=("dog",)))) == {"cat"}


@pytest.mark.parametrize("candidates", ["all", "near"])
def test_words_have_gains_and_do_not_change_from_run_to_run(candidates: str) -> None:
    config = MiningConfig(2, num_images=4, num_timesteps=2, candidates=candidates, num_inference_steps=2)
    words = mine_domain_words(tiny_model(), CONCEPT, config)
    assert words
    assert {word.word for word in words} <= {"cat", "dog"}
    assert all(word.gain > 0 and 0 < word.image_fraction <= 1 for word in words)
    assert words == mine_domain_words(tiny_model(), CONCEPT, config)


def test_no_words_need_no_images() -> None:
    assert mine_domain_words(tiny_model(), CONCEPT, MiningConfig(0, num_images=0)) == []


def test_invalid_settings_are_errors() -> None:
    with pytest.raises(EffaceError, match=r"at least 2 images, not 1: increase domain_images"):
        MiningConfig(4, num_images=1)
    with pytest.raises(UnknownNameError, match="did you mean 'near'"):
        MiningConfig(2, candidates="nere")
