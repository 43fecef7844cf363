"""The cache of text embeddings."""

from __future__ import annotations

import warnings

import pytest
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


def test_half_precision_gives_a_warning(model: StableDiffusionModel) -> None:
    with pytest.warns(UserWarning, match="is bfloat16: .*--dtype float32"):
        EmbeddingCache.for_model(tiny_model(dtype=torch.bfloat16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        EmbeddingCache.for_model(tiny_model())
        EmbeddingCache.for_model(model)
