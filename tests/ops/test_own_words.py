"""Words that a model draws a concept by, and how they are chosen."""

from __future__ import annotations

import torch

from efface.ops.own_words import chosen, covers


def test_words_cover_what_the_concept_is_drawn_as() -> None:
    gains = torch.tensor([[3.0, 3.0, 0.0, 0.0], [2.0, 2.9, 0.5, 0.0], [0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    found = chosen(["bow", "arrow", "bomb", "cat"], gains, 3)
    assert [word.word for word in found] == ["bow", "bomb"], "arrow explains nothing that bow and bomb do not"
    assert [word.gain for word in found] == [1.5, 0.5]
    assert [word.share for word in found] == [0.5, 0.25]
    assert [word.word for word in chosen(["bow", "arrow", "bomb", "cat"], gains, 1)] == ["bow"]


def test_once_all_is_explained_it_is_covered_again_by_other_words() -> None:
    gains = torch.tensor([[3.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    words = ["bow", "arrow", "bomb", "cat"]
    assert [word.word for word in covers(words, gains, 2)] == ["bow", "bomb"]
    assert [word.word for word in covers(words, gains, 4)] == ["bow", "bomb", "arrow"], "cat explains nothing"
