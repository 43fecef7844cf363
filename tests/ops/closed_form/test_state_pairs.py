"""Pairs of token states from prompts."""

from __future__ import annotations

import pytest
import torch

from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.closed_form import (
    EmbeddingCache,
    build_pairs,
    concept_prompts,
)


def test_a_concept_longer_than_the_context_is_refused(model: StableDiffusionModel) -> None:
    with pytest.raises(EffaceError, match=r"cut off.*use a shorter text"):
        build_pairs(EmbeddingCache.for_model(model), concept_prompts(Concept("a very long name indeed"), 0), "last")


def test_a_concept_without_tokens_is_refused(model: StableDiffusionModel) -> None:
    with pytest.raises(EffaceError, match="has no tokens"):
        build_pairs(EmbeddingCache.for_model(model), [("", "a cat", "")], "last")


def test_each_choice_of_positions_pairs_its_tokens(model: StableDiffusionModel) -> None:
    cache = EmbeddingCache.for_model(model)
    rows = [("a gun by cat", "a dog by cat", "gun")]
    last = build_pairs(cache, rows, "last")
    assert torch.equal(last.source[:, 0], cache.states("a gun by cat")[2])
    assert torch.equal(last.anchor[:, 0], cache.states("a dog by cat")[2])
    tail = build_pairs(cache, rows, "tail")
    assert torch.equal(tail.source, cache.states("a gun by cat")[2:].T)
    dropped, alone = build_pairs(cache, [("a gun by cat", "cat", "gun")], "tail"), cache.states("cat")
    assert torch.equal(dropped.source, cache.states("a gun by cat")[2:].T)
    assert torch.equal(dropped.anchor[:, :5].T, alone[[1, 1, 1, 1, 2]]), (
        "text after the concept is paired with itself (by: two tokens)"
    )
    assert torch.equal(build_pairs(cache, [("a gun by cat", "cat", "gun")], "last").anchor[:, 0], alone[1])
    shorter = build_pairs(cache, [("a gun", "", "gun")], "tail")
    assert torch.equal(shorter.source[:, 0], cache.states("a gun")[2])
    assert torch.equal(shorter.anchor[:, 0], cache.states("")[1]), "an empty anchor begins with its end of text"
    assert len(shorter) == 14
    bos = build_pairs(cache, [("a gun", "", "gun")], "last", bos_anchor=True)
    assert torch.equal(bos.anchor[:, 0], cache.states("")[0])
    eos = build_pairs(cache, rows, "eos")
    assert torch.equal(eos.source[:, 0], cache.states("a gun by cat")[cache.positions("a gun by cat").eos or 0])
    assert len(build_pairs(cache, rows, "all")) == 16
