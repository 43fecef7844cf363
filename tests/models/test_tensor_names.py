"""Canonical tensor names do not depend on the library version or on wrappers."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_text, tiny_tokenizer

from efface.core.errors import EffaceError
from efface.models.fingerprint import fingerprint
from efface.models.tensor_names import canonical_name, canonical_paths, resolve_tensor_name


def test_canonical_names_leave_out_the_levels_of_versions_and_wrappers():
    for name in (
        "text_model.encoder.layers.1.mlp.fc1.weight",
        "module.text_encoder.text_model.encoder.layers.1.mlp.fc1.weight",
    ):
        assert canonical_name(name) == "encoder.layers.1.mlp.fc1.weight"
    assert canonical_name("_orig_mod.down.0._orig_mod.to_k.base_layer.weight") == "down.0.to_k.weight"
    assert canonical_name("unet") == "unet"

    class OldTextModel(torch.nn.Module):
        def __init__(self, tower):
            super().__init__()
            self.text_model, self.config = tower, tower.config

    text = tiny_text(tiny_tokenizer())
    assert fingerprint(OldTextModel(text)) == fingerprint(text)
    assert list(canonical_paths(OldTextModel(text))) == list(canonical_paths(text))


def test_a_name_in_any_spelling_resolves_to_a_known_one():
    known = ["encoder.layers.1.mlp.fc1.weight", "encoder.layers.10.mlp.fc1.weight", "final_layer_norm.weight"]
    assert resolve_tensor_name("text_model.encoder.layers.1.mlp.fc1.weight", known) == known[0]
    assert resolve_tensor_name("wrapped.deep.final_layer_norm.weight", known) == known[2]
    assert resolve_tensor_name("layers.10.mlp.fc1.weight", known) == known[1]
    with pytest.raises(EffaceError, match="may be any of"):
        resolve_tensor_name("mlp.fc1.weight", known)
    with pytest.raises(EffaceError, match=r"nearest is 'final_layer_norm.weight'"):
        resolve_tensor_name("final_layer_norm.bias", known)
    with pytest.raises(EffaceError, match="same canonical name"):
        canonical_paths(torch.nn.ModuleDict({"model": torch.nn.Linear(1, 1), "module": torch.nn.Linear(1, 1)}))
