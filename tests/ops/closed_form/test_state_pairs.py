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
    bos = build_pairs(cache, [("a gun", "", "gun")], "last", empty_as_bos=True)
    assert torch.equal(bos.anchor[:, 0], cache.states("")[0])
    eos = build_pairs(cache, rows, "eos")
    assert torch.equal(eos.source[:, 0], cache.states("a gun by cat")[cache.positions("a gun by cat").eos])
    assert len(build_pairs(cache, rows, "all")) == 16
    assert torch.equal(build_pairs(cache, rows, "after_bos").source, cache.states("a gun by cat")[1:].T)


@pytest.mark.parametrize(("concept", "anchor"), [("gun", "a cat by dog"), ("a cat by dog", "gun"), ("gun", "")])
def test_tail_pairs_both_sides_as_far_as_the_shorter(model: StableDiffusionModel, concept: str, anchor: str) -> None:
    """UCE's code of 2023: from the last token on, min(77 - last, 77 - last of the anchor) tokens on both sides."""
    cache = EmbeddingCache.for_model(model)
    pairs = build_pairs(cache, [(concept, anchor, concept)], "tail", empty_as_bos=True)
    start, match = ({"gun": 1, "a cat by dog": 5, "": 0}[text] for text in (concept, anchor))  # by: two tokens
    length = 16 - max(start, match)
    assert torch.equal(pairs.source.T, cache.states(concept)[start : start + length])
    assert torch.equal(pairs.anchor.T, cache.states(anchor)[match : match + length])


@pytest.mark.parametrize(
    ("prompt", "word", "end"),
    [("the cat on the rethe", "the", 9), ("A GUN on cat", "gun", 2), ("gun gunn", "gun", 1), ("a dog", "gun", 2)],
)
def test_a_concept_ends_at_its_last_whole_word(model: StableDiffusionModel, prompt: str, word: str, end: int) -> None:
    """A prompt without the word counts as the concept as a whole."""
    cache = EmbeddingCache.for_model(model)
    pairs = build_pairs(cache, [(prompt, "cat", word)], "last")
    assert torch.equal(pairs.source[:, 0], cache.states(prompt)[end])
