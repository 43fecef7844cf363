"""Greedy choice of words that together explain a set of images."""

from __future__ import annotations

import torch

from efface.ops.elide.greedy_cover import greedy_cover, repeated_greedy_cover

WORDS = ["bow", "arrow", "bomb", "cat"]


def test_each_word_is_chosen_for_what_is_left_unexplained() -> None:
    gains = torch.tensor([[3.0, 3.0, 0.0, 0.0], [2.0, 2.9, 0.5, 0.0], [0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    cover = greedy_cover(WORDS, gains, 3)
    assert cover == ["bow", "bomb"], "arrow explains nothing that bow and bomb do not"
    assert greedy_cover(WORDS, gains, 1) == ["bow"]


def test_the_remaining_words_cover_the_images_again() -> None:
    gains = torch.tensor([[3.0, 3.0, 0.0, 0.0], [2.0, 2.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    assert repeated_greedy_cover(WORDS, gains, 2) == ["bow", "bomb"]
    cover = repeated_greedy_cover(WORDS, gains, 4)
    assert cover == ["bow", "bomb", "arrow"], "cat explains nothing"


def test_a_word_that_explains_a_single_image_is_not_chosen() -> None:
    gains = torch.tensor([[3.0, 3.0, 0.0, 0.0], [0.0, 0.0, 0.0, 9.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    assert repeated_greedy_cover(WORDS, gains, 4) == ["bow", "bomb"]
