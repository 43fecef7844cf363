"""Soft prompts of attacks, and single-token words."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_model

from efface.core.attack_set import SoftPrompt
from efface.core.errors import EffaceError
from efface.models.soft_prompt import SoftTokens
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.tensor_conversion import to_blob
from efface.ops.text.soft_prompts import (
    embedding_table,
    nearest_words,
    single_token_ids,
    special_token_ids,
    to_soft_prompts,
    to_soft_tokens,
)


def test_soft_tokens_survive_the_conversion() -> None:
    model = tiny_model()
    mask = torch.zeros(2, 16, dtype=torch.bool)
    mask[0, [1, 3]] = mask[1, 2] = True
    embeddings = torch.randn(2, 16, 32, generator=torch.Generator().manual_seed(0))
    soft_prompts = to_soft_prompts(SoftTokens(embeddings, mask))
    assert [prompt.positions for prompt in soft_prompts] == [(1, 3), (2,)]
    restored = to_soft_tokens(model, [soft_prompts[0], None, soft_prompts[1]])
    assert restored is not None
    assert torch.equal(restored.mask[[0, 2]], mask)
    assert not restored.mask[1].any()
    assert torch.equal(restored.embeddings[[0, 2]][mask], embeddings[mask])
    assert to_soft_tokens(model, [None, None]) is None


def test_soft_prompts_of_another_width_or_context_are_errors() -> None:
    model = tiny_model()
    with pytest.raises(EffaceError, match=r"of width 8, but the text encoder of .* has width 32"):
        to_soft_tokens(model, [SoftPrompt(to_blob(torch.zeros(2, 8)), (1, 2))])
    with pytest.raises(EffaceError, match=r"at token position 41, but the context of .* ends after 16 tokens"):
        to_soft_tokens(model, [SoftPrompt(to_blob(torch.zeros(2, 32)), (40, 41))])


def test_nearest_words_are_never_special_tokens() -> None:
    model = tiny_model()
    table = embedding_table(model)
    assert nearest_words(model, table[model.tokenize(["cat gun"]).ids[0, 1:3]]) == "cat gun"
    specials = special_token_ids(model)
    assert not set(model.tokenize([nearest_words(model, table[specials])]).ids[0, 1:3].tolist()) & set(
        specials.tolist()
    )


def test_refused_words_are_not_in_the_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real vocabularies have tokens that the policy refuses by themselves."""
    model = tiny_model()
    ids = single_token_ids(model)
    assert set(model.tokenize(["cat", "dog", "gun"]).ids[:, 1].tolist()) <= set(ids.tolist())
    monkeypatch.setattr(model, "vocabulary_words", lambda: [*StableDiffusionModel.vocabulary_words(model), "lolicon"])
    assert torch.equal(single_token_ids(model), ids)
