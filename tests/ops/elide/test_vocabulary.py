"""Candidates for domain words, and words to hold."""

from __future__ import annotations

import pytest
from helpers.tiny import tiny_model

from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.elide.vocabulary import domain_candidates, words_to_hold


def test_candidates_exclude_the_concept_and_the_retain_prompts() -> None:
    model = tiny_model()
    assert set(domain_candidates(model, Concept("gun", retain_prompts=("x",)))) == {"cat", "dog"}
    assert set(domain_candidates(model, Concept("gun", retain_prompts=("a cat",)))) == {"dog"}
    assert set(domain_candidates(model, Concept("gun", synonyms=("dog",)))) == {"cat"}


def test_held_words_exclude_concepts_erased_words_and_the_nearest(pocket: StableDiffusionModel) -> None:
    lion = Concept("lion", retain_prompts=("a tiger",))
    every = set(words_to_hold(pocket, [lion], (), 0.0))
    assert {"dog", "guitar"} <= every
    assert "lion" not in every
    assert set(words_to_hold(pocket, [lion], ["guitar"], 0.0)) == every - {"guitar"}
    held = set(words_to_hold(pocket, [lion], (), 0.02))
    left_out = every - held
    assert len(left_out) == round(0.02 * len(every))
    assert "guitar" in held
    with pytest.raises(EffaceError, match="lower ambiguous_fraction"):
        words_to_hold(pocket, [lion], (), 1.0)
