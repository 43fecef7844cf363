"""Statistics in the file of an erasure."""

from __future__ import annotations

from pathlib import Path

import torch
from helpers.tiny import erasure_of

from efface.core.concept import Concept
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.closed_form import (
    EmbeddingCache,
    Pairs,
    PreservedStates,
    Problem,
    Statistics,
    build_pairs,
    concept_prompts,
    to_edit,
)

CONCEPT = Concept("gun", retain_prompts=("a cat", "a dog"))


def test_statistics_are_saved_with_the_erasure(model: StableDiffusionModel, tmp_path: Path) -> None:
    cache = EmbeddingCache.for_model(model)
    statistics = Statistics(
        tuple(build_pairs(cache, concept_prompts(c, 0), "tail") for c in (CONCEPT, Concept("dog"))),
        PreservedStates.from_texts(cache, ["a cat", ""], all_tokens=False),
    )
    edit, tensors = to_edit(
        model, Problem(Pairs.cat(statistics.pairs), statistics.preserved.preserve(1.0)).solve(), "cross_kv"
    )
    saved = erasure_of(model, [edit], {**tensors, **statistics.tensors()}).save(tmp_path / "e")
    read = Statistics.read(saved.tensors)
    assert [p.texts for p in read.pairs] == [p.texts for p in statistics.pairs]
    assert all(
        torch.equal(a.source, b.source) and torch.equal(a.anchor, b.anchor)
        for a, b in zip(read.pairs, statistics.pairs, strict=True)
    )
    assert read.preserved.texts == ("a cat", "")
    assert read.preserved.states is not None
    assert statistics.preserved.states is not None
    assert torch.equal(read.preserved.states, statistics.preserved.states)


def test_an_empty_retain_prompt_is_its_end_of_text_or_bos(model: StableDiffusionModel) -> None:
    cache = EmbeddingCache.for_model(model)
    for empty_as_bos, position in ((False, 1), (True, 0)):
        states = PreservedStates.from_texts(cache, [""], all_tokens=False, empty_as_bos=empty_as_bos).states
        assert states is not None
        assert torch.equal(states[:, 0], cache.states("")[position])
