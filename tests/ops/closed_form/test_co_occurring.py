"""Pairs of the tokens around a concept."""

from __future__ import annotations

import torch

from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.closed_form import (
    EmbeddingCache,
    align_tokens,
    co_occurring_pairs,
)


def test_shared_tokens_are_aligned() -> None:
    """BOS 0, end of text and padding 9; 5 is the concept, 6 7 the anchor."""
    here, there = [0, 1, 2, 5, 3, 9, 9, 9], [0, 1, 2, 6, 7, 3, 9, 9]
    assert align_tokens(here, 5, there, 6) == [(0, 0), (1, 1), (2, 2), (4, 5), (5, 6), (6, 7)]
    assert align_tokens([0, 5, 9, 9], 2, [0, 9, 9, 9], 1) == [(0, 0), (2, 1), (3, 2)], (
        "with an empty anchor, end of text and padding remain"
    )
    same = align_tokens([0, 1, 9], 2, [0, 1, 9], 2)
    assert same == [(0, 0), (1, 1), (2, 2)], "no position twice if both are equal"
    assert align_tokens([0, 5, 5, 9], 3, [0, 5, 9, 9], 2) == [(0, 0), (1, 1), (3, 2)]


def test_tokens_that_the_anchor_shares_are_paired_even_in_the_name(model: StableDiffusionModel) -> None:
    cache = EmbeddingCache.for_model(model)
    pairs = co_occurring_pairs(model, cache, [("a gun by dog", "a cat by dog", "gun")])
    here, there = cache.states("a gun by dog"), cache.states("a cat by dog")
    kept = [i for i in range(16) if i != 2]
    assert torch.equal(pairs.source, here[kept].T)
    assert torch.equal(pairs.anchor, there[kept].T)
    shared = co_occurring_pairs(model, cache, [("a cat gun", "a cat dog", "cat gun")])
    assert torch.equal(shared.source, cache.states("a cat gun")[[0, 1, 2, *range(4, 16)]].T)
    assert set(shared.texts) == {"cat gun"}
