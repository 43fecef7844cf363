"""Words with which the denoiser explains a concept's images."""

from __future__ import annotations

import pytest
from helpers.tiny import tiny_model

from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.ops.elide.denoiser_mining import mine_words_by_denoiser

CONCEPT = Concept("gun", retain_prompts=("x",))


def test_words_do_not_change_from_run_to_run() -> None:
    words = mine_words_by_denoiser(tiny_model(), CONCEPT, count=2, num_images=4)
    assert words
    assert set(words) <= {"cat", "dog"}
    assert words == mine_words_by_denoiser(tiny_model(), CONCEPT, count=2, num_images=4)


def test_a_single_image_is_too_few() -> None:
    with pytest.raises(EffaceError, match=r"at least 2 images, not 1: increase domain_images"):
        mine_words_by_denoiser(tiny_model(), CONCEPT, count=4, num_images=1)
