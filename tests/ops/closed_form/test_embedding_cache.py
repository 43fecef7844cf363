"""The cache of text embeddings."""

from __future__ import annotations

import warnings

import torch
from helpers.tiny import tiny_model

from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.closed_form import EmbeddingCache


def test_a_text_is_encoded_once(model: StableDiffusionModel) -> None:
    cache = EmbeddingCache.for_model(model, batch_size=2)
    calls: list[int] = []
    encode = cache._encode
    cache._encode = lambda texts: calls.append(len(texts)) or encode(texts)  # type: ignore[func-returns-value]
    cache.add(["a cat", "a dog", "a cat", "a gun"])
    cache.add(["a gun"])
    cache.states("a dog")
    assert calls == [2, 1]
    assert len(cache) == 3


def test_a_model_in_half_precision_encodes_in_float32_without_a_warning(model: StableDiffusionModel) -> None:
    half = StableDiffusionModel(tiny_model().pipe.to(torch.bfloat16), "half")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        states = EmbeddingCache.for_model(half).states("a cat")
    exact = EmbeddingCache.for_model(tiny_model()).states("a cat")
    rounded = half.encode(["a cat"]).states[0].double()
    assert (states - exact).norm() < (rounded - exact).norm()
    assert not torch.equal(states, states.bfloat16().double())
