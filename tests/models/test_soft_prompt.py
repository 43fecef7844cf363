"""Soft tokens are inserted after BOS, and their hook is removed."""

from __future__ import annotations

import pytest
import torch

from efface.models.soft_prompt import inject_soft_tokens, token_embedding


def test_embeddings_of_words_encode_like_the_words(tiny):
    ids = tiny.tokenize(["cat gun"]).ids[0, 1:3]
    soft = token_embedding(tiny.text_encoder).weight[ids][None]
    torch.testing.assert_close(
        tiny.encode(["dog"], soft=soft).states, tiny.encode(["cat gun dog"]).states, rtol=1e-5, atol=1e-5
    )
    two = tiny.encode(["dog", "a"], soft=torch.cat([soft, soft.flip(1)])).states
    torch.testing.assert_close(two[1:], tiny.encode(["gun cat a"]).states, rtol=1e-5, atol=1e-5)


def test_the_hook_is_removed_after_an_error(tiny):
    before = tiny.encode(["dog"]).states
    with (
        pytest.raises(ZeroDivisionError),
        inject_soft_tokens(tiny.text_encoder, torch.zeros(1, 16).long(), torch.zeros(1, 1, 32)),
    ):
        raise ZeroDivisionError
    assert torch.equal(tiny.encode(["dog"]).states, before)
