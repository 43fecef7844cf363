"""Domain words that an image tower reads from images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from helpers.tiny import tiny_model
from torch import Tensor

from efface.core.concept import Concept
from efface.ops.elide.image_mining import fitting_words, mine_words_from_images

WORDS = ["cat", "dog", "bow"]


class FakeTower:
    """Images of the concept look like a cat; every other image like a dog."""

    def __init__(self, num_images: int) -> None:
        self.remaining = num_images

    def image_features(self, images: Tensor) -> Tensor:
        of_concept = torch.arange(len(images)) < self.remaining
        self.remaining -= int(of_concept.sum())
        cat, dog = torch.tensor([0.6, 0.8, 0.0]), torch.tensor([0.1, 0.0, 0.9])
        return torch.where(of_concept[:, None], cat, dog)

    def text_features(self, prompts: Sequence[str]) -> Tensor:
        vectors = {"gun": [1.0, 0.0, 0.0], "cat": [0.0, 1.0, 0.0], "dog": [0.0, 0.0, 1.0]}
        return torch.tensor([next(vector for word, vector in vectors.items() if word in prompt) for prompt in prompts])


def test_words_of_the_concepts_images_that_other_images_do_not_show_are_mined() -> None:
    concept = Concept("gun", retain_prompts=("x",))
    words = mine_words_from_images(tiny_model(), FakeTower(4), concept, num_images=4, seed=0)
    assert words == ["cat"]
    assert mine_words_from_images(tiny_model(), FakeTower(8), concept, num_images=4, seed=0) == [], (
        "a word of the retain prompts' images, too, is no domain word"
    )


def test_a_word_fits_if_it_scores_at_least_as_high_as_the_name() -> None:
    assert fitting_words(torch.tensor([0.5, 0.6, 0.4, 0.5]), WORDS) == ["cat", "bow"]
    assert fitting_words(torch.tensor([0.9, 0.6, 0.4, 0.5]), WORDS) == []
