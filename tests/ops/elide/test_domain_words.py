"""Words that a model draws a concept by, and how they are chosen."""

from __future__ import annotations

import pytest
import torch

from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.elide.domain_words import greedy_cover, mine_domain_words, repeated_greedy_cover

WORDS = ["bow", "arrow", "bomb", "cat"]


def test_words_cover_what_the_concept_is_drawn_as() -> None:
    gains = torch.tensor([[3.0, 3.0, 0.0, 0.0], [2.0, 2.9, 0.5, 0.0], [0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    found = greedy_cover(WORDS, gains, 3)
    assert [word.word for word in found] == ["bow", "bomb"], "arrow explains nothing that bow and bomb do not"
    assert [word.gain for word in found] == [1.5, 0.75]
    assert [word.share for word in found] == [0.5, 0.5]
    assert [word.word for word in greedy_cover(WORDS, gains, 1)] == ["bow"]


def test_once_all_is_explained_it_is_covered_again_by_other_words() -> None:
    gains = torch.tensor([[3.0, 3.0, 0.0, 0.0], [2.0, 2.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    assert [word.word for word in repeated_greedy_cover(WORDS, gains, 2)] == ["bow", "bomb"]
    assert [word.word for word in repeated_greedy_cover(WORDS, gains, 4)] == ["bow", "bomb", "arrow"], (
        "cat explains nothing"
    )


def test_a_word_that_explains_a_single_image_is_an_accident() -> None:
    gains = torch.tensor([[3.0, 3.0, 0.0, 0.0], [0.0, 0.0, 0.0, 9.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    assert [word.word for word in repeated_greedy_cover(WORDS, gains, 4)] == ["bow", "bomb"]


def test_one_image_is_too_few_to_ask_about(pocket: StableDiffusionModel) -> None:
    with pytest.raises(EffaceError, match=r"at least 2 images.*words_images"):
        mine_domain_words(pocket, Concept("weapon", "domain"), count=4, images=1)
