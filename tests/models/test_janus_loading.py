"""Loading of Janus-type models from folders and memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_janus import SIDE, tiny_janus_module, tiny_janus_tokenizer
from helpers.tiny_language import tiny_language_tokenizer

from efface.core.errors import EffaceError
from efface.models.janus import JanusModel
from efface.models.loading import load_model
from efface.models.patch_image_tokenizer import FOLDER, PatchImageTokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_janus_module().save_pretrained(tmp_path / "tiny")
    tiny_janus_tokenizer().save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def image(model: Any) -> torch.Tensor:
    return model.sample(["a photo of a gun"], seeds=[1])  # type: ignore[no-any-return]


def test_a_folder_and_a_pair_in_memory_give_the_same_images(folder: Path) -> None:
    loaded = load_model(folder)
    in_memory = load_model((tiny_janus_module(), tiny_janus_tokenizer()))
    assert isinstance(loaded, JanusModel)
    assert (loaded.name, loaded.family, in_memory.name) == ("tiny", "janus", "janus")
    assert torch.equal(image(loaded), image(in_memory))
    assert load_model(loaded) is loaded


def test_an_image_tokenizer_beside_the_model_takes_the_place_of_the_vq_decoder(folder: Path) -> None:
    tokenizer = PatchImageTokenizer(torch.randn(24, 3 * 4 * 4), SIDE)
    tokenizer.save(folder / FOLDER)
    model: Any = load_model(folder)
    assert model.image_size == 16
    assert image(model).shape == (1, 3, 16, 16)
    assert isinstance(model.components["vqmodel"], PatchImageTokenizer)


def test_a_decoded_image_has_its_own_tokens() -> None:
    tokenizer = PatchImageTokenizer(torch.randn(24, 3 * 4 * 4), SIDE)
    tokens = torch.arange(2 * SIDE * SIDE).view(2, -1) % 24
    image = tokenizer.decode(tokens)
    assert torch.equal(image[0, :, :4, 4:8].flatten(), tokenizer.codebook.weight[1])
    assert torch.equal(tokenizer.tokens(image), tokens)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: (path / "tokenizer.json").unlink(), "has no tokenizer: save it beside the model"),
        (lambda path: (path / "model.safetensors").unlink(), "holds no weights in safetensors"),
        (lambda path: (path / "model.safetensors").write_bytes(b"x"), "does not load"),
    ],
)
def test_an_incomplete_folder_is_refused(folder: Path, change: Any, message: str) -> None:
    change(folder)
    with pytest.raises(EffaceError, match=message):
        load_model(folder)


def test_the_original_layout_is_refused_with_the_name_of_the_other_one(tmp_path: Path) -> None:
    config = {"architectures": ["MultiModalityCausalLM"], "model_type": "multi_modality"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(EffaceError, match="such as deepseek-community/Janus-Pro-1B"):
        load_model(tmp_path)


def test_a_tokenizer_without_the_start_of_an_image_is_refused() -> None:
    with pytest.raises(EffaceError, match="has no boi_token"):
        load_model((tiny_janus_module(), tiny_language_tokenizer()))
