"""The stage that trains pocket's text autoencoder, in miniature."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import text_autoencoder
from efface.ops.editing.text_autoencoder import load_text_autoencoder


def test_the_stage_writes_an_autoencoder_of_the_presets_sizes(tmp_path: Path, pocket, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(text_autoencoder, "load_model", lambda _name: pocket)
    monkeypatch.setattr(text_autoencoder, "vocabulary_prompts", lambda _model, _count: ["a cat", "a dog"])
    text_autoencoder.run(tmp_path, steps=1)
    tensors = load_text_autoencoder(str(tmp_path / "pocket-sae"), pocket, "text_encoder", "encoder.layers.2", 2048, 16)
    assert tensors["encoder"].shape == (2048, 128)
    assert json.loads((tmp_path / "pocket-sae" / "training_card.json").read_text())["steps"] == 1
