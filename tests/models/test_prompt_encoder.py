"""Tokens of prompts, padded or cut to a length."""

from __future__ import annotations

import pytest
import torch

from efface.models.loading import load_model
from efface.models.prompt_encoder import padded_tokens, token_rows


@pytest.mark.parametrize("name", ["pocket", "pocket-flow"])
def test_padding_and_cutting_are_those_of_the_tokenizer(name):
    model = load_model(name)
    prompts = ["", "a cat", "a photo of a gun, at night", "weapon " * 100]
    for encoder in model.encoders:
        length = 24
        options = {"padding": "max_length", "max_length": length, "truncation": True, "return_tensors": "pt"}
        expected = encoder.tokenizer(prompts, **options).input_ids
        rows = token_rows(encoder.tokenizer, prompts)
        assert torch.equal(padded_tokens(encoder.tokenizer, rows, length, model.device).ids, expected)
