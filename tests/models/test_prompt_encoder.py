"""Tokens of prompts, padded or cut to a length."""

from __future__ import annotations

import pytest
import torch

from efface.models.loading import load_model


@pytest.mark.parametrize("name", ["pocket", "pocket-flow"])
def test_padding_and_cutting_are_those_of_the_tokenizer(name):
    model = load_model(name)
    prompts = ["", "a cat", "a photo of a gun, at night", "weapon " * 100]
    for encoder in model.encoders:
        length = 24
        options = {"padding": "max_length", "max_length": length, "truncation": True, "return_tensors": "pt"}
        expected = encoder.tokenizer(prompts, **options).input_ids
        assert torch.equal(model._pad_to_length(encoder.tokenizer, prompts, length).ids, expected)
