"""Weights of a component in variants and shards, beside stray files; damaged, quantized or incomplete ones refused."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from helpers.tiny import tiny_pipe
from safetensors.torch import load_file, save_file

from efface.core.errors import EffaceError
from efface.models.component_weights import find_weights
from efface.models.loading import load_model

LOST = "encoder.layers.0.mlp.fc1.weight"


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """The tiny model in float16 as fp16 variants in one file, as the same in shards, and in plain float32."""
    root = tmp_path_factory.mktemp("variants")
    pipe = tiny_pipe()
    pipe.save_pretrained(root / "plain")
    pipe.to(torch.float16)
    pipe.save_pretrained(root / "one", variant="fp16")
    pipe.save_pretrained(root / "many", variant="fp16", max_shard_size="30KB")
    return root


def without(path, lost):
    """Removes a tensor from a file, which stays a file of weights."""
    tensors = {name: t for name, t in load_file(path).items() if not name.endswith(lost)}
    save_file(tensors or {"x": torch.zeros(1)}, path, {"format": "pt"})


def older_names(folder):
    """Renames shards to the scheme with the variant at the end, model-00001-of-00002.fp16.safetensors."""
    for index in folder.glob("*/*.index.*json"):
        content = json.loads(index.read_text())
        for shard in set(content["weight_map"].values()):
            stem, _, numbers = shard.removesuffix(".safetensors").partition(".fp16-")
            (index.parent / shard).rename(index.parent / f"{stem}-{numbers}.fp16.safetensors")
        content["weight_map"] = {
            name: shard.replace(".fp16-", "-").replace(".safetensors", ".fp16.safetensors")
            for name, shard in content["weight_map"].items()
        }
        index.write_text(json.dumps(content))


@pytest.mark.parametrize("rename", [False, True])
def test_shards_in_half_precision_load_as_one_file(rename, halves, tmp_path):
    shutil.copytree(halves / "many", tmp_path / "m")
    assert len(list((tmp_path / "m" / "unet").glob("*.safetensors"))) > 1
    if rename:
        older_names(tmp_path / "m")
    assert load_model(tmp_path / "m").fingerprint() == load_model(halves / "one").fingerprint()


@pytest.mark.parametrize("part", ["unet", "text_encoder", "vae"])
def test_components_in_different_variants_load(part, halves, tmp_path):
    shutil.copytree(halves / "plain", tmp_path / "m")
    shutil.rmtree(tmp_path / "m" / part)
    shutil.copytree(halves / "one" / part, tmp_path / "m" / part)
    assert find_weights(tmp_path / "m" / part).variant == "fp16"
    model, whole = load_model(tmp_path / "m"), load_model(halves / "plain").fingerprint()
    assert {name for name, value in model.fingerprint().items() if value != whole[name]} == {part}
    without(tmp_path / "m" / "text_encoder" / find_weights(tmp_path / "m" / "text_encoder").files[0].name, LOST)
    with pytest.raises(EffaceError, match="text_encoder lacks 1 of its tensors"):
        load_model(tmp_path / "m")


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_tensor_that_a_shard_lacks_is_missing(part, halves, tmp_path):
    shutil.copytree(halves / "many", tmp_path / "m")
    lost = LOST if part == "text_encoder" else "mid_block.resnets.0.conv1.weight"
    shard = next(
        p for p in (tmp_path / "m" / part).glob("*.safetensors") if any(k.endswith(lost) for k in load_file(p))
    )
    without(shard, lost)
    with pytest.raises(EffaceError, match=rf"{part} lacks 1 of its tensors"):
        load_model(tmp_path / "m")
    shard.unlink()
    with pytest.raises(EffaceError, match=r"lacks .*safetensors, which its .*index.* names"):
        load_model(tmp_path / "m")


@pytest.mark.parametrize("name", ["backup.safetensors", "model.old.safetensors", "model-00009-of-00009.safetensors"])
def test_stray_files_hide_no_missing_tensor(name, halves, tmp_path):
    shutil.copytree(halves / "plain", tmp_path / "m")
    path = tmp_path / "m" / "text_encoder" / "model.safetensors"
    shutil.copy(path, path.with_name(name))
    load_model(tmp_path / "m")
    without(path, LOST)
    with pytest.raises(EffaceError, match="text_encoder lacks 1 of its tensors"):
        load_model(tmp_path / "m")


def test_it_is_said_which_weights_are_read_beside_ema(halves, tmp_path):
    shutil.copytree(halves / "plain", tmp_path / "m")
    weights = tmp_path / "m" / "unet" / "diffusion_pytorch_model.safetensors"
    shutil.copy(weights, weights.with_name("diffusion_pytorch_model.non_ema.safetensors"))
    with pytest.warns(UserWarning, match="holds the variant 'non_ema' too; read are the weights without a variant"):
        load_model(tmp_path / "m")


def test_quantized_damaged_and_adapted_weights_are_refused(halves, tmp_path):
    unet, text = tmp_path / "m" / "unet", tmp_path / "m" / "text_encoder"
    weights = unet / "diffusion_pytorch_model.safetensors"

    def refused(match):
        with pytest.raises(EffaceError, match=match) as caught:
            load_model(tmp_path / "m")
        assert "\n" not in str(caught.value)
        shutil.rmtree(tmp_path / "m")

    shutil.copytree(halves / "plain", tmp_path / "m")
    tensors = load_file(weights)
    save_file({**tensors, "conv_in.weight": tensors["conv_in.weight"].to(torch.int8)}, weights)
    refused(r"holds quantized weights \(such as conv_in\.weight, I8\)")
    shutil.copytree(halves / "plain", tmp_path / "m")
    config = json.loads((text / "config.json").read_text())
    (text / "config.json").write_text(json.dumps({**config, "quantization_config": {"load_in_4bit": True}}))
    refused("is quantized")
    shutil.copytree(halves / "plain", tmp_path / "m")
    weights.write_bytes(weights.read_bytes() + b"12345")
    refused("is 5 bytes longer than its header says")
    shutil.copytree(halves / "plain", tmp_path / "m")
    (text / "adapter_config.json").write_text("{}")
    refused("holds an adapter")
    shutil.copytree(halves / "plain", tmp_path / "m")
    config = json.loads((unet / "config.json").read_text())
    (unet / "config.json").write_text(json.dumps({**config, "time_cond_proj_dim": 8}))
    refused("is guidance-distilled")
    shutil.copytree(halves / "plain", tmp_path / "m")
    (unet / "config.json").write_text(json.dumps({**config, "in_channels": 9}))
    refused("is an inpainting model")


def test_tensors_that_the_configuration_has_no_place_for_are_reported(halves, tmp_path):
    shutil.copytree(halves / "plain", tmp_path / "m")
    config = tmp_path / "m" / "text_encoder" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "num_hidden_layers": 1}))
    with pytest.warns(UserWarning, match="text_encoder holds 16 tensors that its config.json has no place for"):
        load_model(tmp_path / "m")
