from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_language import tiny_language_model, write_autoencoder
from safetensors.torch import load_file, save_file

from efface.core.errors import EffaceError
from efface.models.autoencoder import load_autoencoder, load_autoencoders, select_layers
from efface.models.causal_lm import CausalLM


@pytest.fixture(scope="module")
def model() -> CausalLM:
    return tiny_language_model()


def test_activations_are_those_of_saelens(model: CausalLM, tmp_path: Path) -> None:
    folder = write_autoencoder(tmp_path, model, 1, "mlp_out")
    tensors = load_file(folder / "sae_weights.safetensors")
    tensors["b_dec"] += 0.1
    tensors["b_enc"] += 0.2
    save_file(tensors, folder / "sae_weights.safetensors")
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(1)) * 3
    centred = x - x.mean(-1, keepdim=True)
    std = centred.std(-1, keepdim=True)
    pre = (centred / (std + 1e-5) - tensors["b_dec"]) @ tensors["W_enc"] + tensors["b_enc"]
    acts = torch.where(pre > tensors["threshold"], pre, 0.0)
    autoencoder = load_autoencoder(folder, model)
    torch.testing.assert_close(autoencoder.encode(x), acts)
    decoded = (acts @ tensors["W_dec"] + tensors["b_dec"]) * std + x.mean(-1, keepdim=True)
    torch.testing.assert_close(autoencoder.reconstruct(x), decoded, atol=1e-3, rtol=1e-3)


def test_a_bias_that_is_not_subtracted_is_folded_into_the_encoder(model: CausalLM, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"apply_b_dec_to_input": False, "normalize_activations": "none"}
    folder = write_autoencoder(tmp_path, model, 1, "mlp_out", **changes)
    tensors = load_file(folder / "sae_weights.safetensors")
    tensors["b_dec"] += 0.3
    save_file(tensors, folder / "sae_weights.safetensors")
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    pre = x @ tensors["W_enc"]
    expected = torch.where(pre > 0.5, pre, 0.0)
    torch.testing.assert_close(load_autoencoder(folder, model).encode(x), expected, atol=1e-5, rtol=1e-4)


def test_layers_are_selected_by_number(model: CausalLM, tmp_path: Path) -> None:
    for layer in (2, 0):
        write_autoencoder(tmp_path, model, layer, "resid_post")
    found = load_autoencoders(str(tmp_path), model, "resid_post")
    assert list(found) == [0, 2]
    assert list(select_layers(found, "2")) == [2]
    with pytest.raises(EffaceError, match="no autoencoder of layer '1': choose from 0,2"):
        select_layers(found, "0,1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "gated"}, "is not of the architecture jumprelu or standard"),
        ({"metadata": {"hook_name": "blocks.1.hook_z"}}, "names the hook 'blocks.1.hook_z'"),
        ({"metadata": {"hook_name": "blocks.7.hook_mlp_out"}}, "is of layer 7, tiny-llama has 0 to 2: give one that"),
    ],
)
def test_other_autoencoders_are_refused_in_one_line(
    changes: dict[str, Any], message: str, model: CausalLM, tmp_path: Path
) -> None:
    write_autoencoder(tmp_path, model, 1, "mlp_out", **changes)
    with pytest.raises(EffaceError, match=message) as error:
        load_autoencoders(str(tmp_path), model, "mlp_out")
    assert "\n" not in str(error.value)


def test_an_autoencoder_of_another_width_or_site_is_refused(model: CausalLM, tmp_path: Path) -> None:
    folder = write_autoencoder(tmp_path, model, 1, "mlp_out")
    with pytest.raises(EffaceError, match="holds no autoencoder of resid_post, only of mlp_out"):
        load_autoencoders(str(tmp_path), model, "resid_post")
    wide = {name: torch.zeros(8, 20) for name in ("W_enc", "W_dec")} | {"b_dec": torch.zeros(20)}
    save_file(wide, folder / "sae_weights.safetensors")
    with pytest.raises(EffaceError, match="has width 20, tiny-llama 16: give one that"):
        load_autoencoders(str(tmp_path), model, "mlp_out")


def test_missing_files_are_named(model: CausalLM, tmp_path: Path) -> None:
    with pytest.raises(EffaceError, match="no autoencoders ship for tiny-llama"):
        load_autoencoders("", model, "mlp_out")
    with pytest.raises(EffaceError, match="holds no autoencoder: save some with SAELens"):
        load_autoencoders(str(tmp_path), model, "mlp_out")
    folder = write_autoencoder(tmp_path, model, 1, "mlp_out")
    (folder / "sae_weights.safetensors").unlink()
    with pytest.raises(EffaceError, match=r"has no sae_weights\.safetensors"):
        load_autoencoders(str(tmp_path), model, "mlp_out")
    (folder / "cfg.json").write_text(json.dumps([]))
    with pytest.raises(EffaceError, match="not of the architecture"):
        load_autoencoders(str(tmp_path), model, "mlp_out")
