"""The Gram matrix of captions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny import tiny_model

from efface.core.errors import EffaceError
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.closed_form import (
    GramAccumulator,
    encoder_hash,
)


def test_the_gram_of_captions_is_that_of_all_tokens(model: StableDiffusionModel, tmp_path: Path) -> None:
    captions = ["a cat", "a dog", "a gun", "a cat", ""]
    gram = GramAccumulator.of_captions(model, iter(captions), batch_size=2)
    states = model.encode(captions).states.flatten(0, 1).T.detach()
    torch.testing.assert_close(gram.matrix, states @ states.T, rtol=1e-12, atol=1e-12)
    assert (gram.num_captions, gram.num_states) == (5, 5 * 16)
    halves = [GramAccumulator.of_captions(model, part) for part in (captions[:2], captions[2:])]
    torch.testing.assert_close(halves[0].merge(halves[1]).matrix, gram.matrix, rtol=1e-12, atol=1e-12)
    read = GramAccumulator.load(gram.save(tmp_path / "gram"))
    assert torch.equal(read.matrix, gram.matrix)
    assert (read.encoder, read.num_captions, read.num_states) == (gram.encoder, 5, 80)
    read.check_encoder(encoder_hash(model))
    with pytest.raises(EffaceError, match="another text encoder or tokenizer"):
        read.check_encoder(encoder_hash(tiny_model(seed=3)))
    with pytest.raises(EffaceError, match="holds no Gram"):
        GramAccumulator.load(tmp_path)
