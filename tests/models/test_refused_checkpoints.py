"""Checkpoints in one file that are damaged, quantized or of another kind: one line says what they are."""

from __future__ import annotations

import pytest
import torch
from helpers.original import UNET, write_original
from helpers.tiny import PIPES, tiny_pipe, tiny_sdxl_pipe
from safetensors.torch import load_file, save_file

from efface.core.errors import EffaceError
from efface.models.loading import load_model


def refused(tensors, path, config, match):
    save_file(tensors, path)
    with pytest.raises(EffaceError, match=match) as caught:
        load_model(path, config=config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", PIPES)
@pytest.mark.parametrize(
    "end", ["mlp.fc1.weight", "mlp.c_fc.weight", "attn2.to_k.weight", "norm_out.bias", "in_proj_bias"]
)
def test_a_missing_tensor_is_named_with_its_component(family, end, checkpoints, folders, tmp_path):
    tensors = load_file(checkpoints[family])
    lost = [name for name in tensors if name.endswith(end)][:1]
    if lost:
        rest = {name: tensor for name, tensor in tensors.items() if name not in lost}
        refused(rest, tmp_path / "a.safetensors", folders[family], "lacks . of the tensors of its .*--model-config")


@pytest.mark.parametrize(
    ("name", "channels", "kind"),
    [
        ("inpainting", 9, "an inpainting model"),
        ("depth", 5, "a depth-conditioned model"),
        ("edit", 8, "an image-editing model"),
        ("upscaler", 7, "an upscaler"),
        ("other", 6, "another kind of model"),
    ],
)
def test_denoisers_with_further_inputs_are_named(name, channels, kind, checkpoints, folders, tmp_path):
    tensors = load_file(checkpoints["sd1"])
    first = UNET + "input_blocks.0.0.weight"
    tensors[first] = torch.zeros(len(tensors[first]), channels, 3, 3)
    refused(tensors, tmp_path / f"{name}.safetensors", folders["sd1"], rf"is {kind}.*not supported")


@pytest.mark.parametrize(
    ("marker", "kind"),
    [
        ("conditioner.embedders.0.model.text_projection", "SDXL's refiner"),
        ("edm_mean", "Playground"),
        ("edm_vpred.sigma_max", "CosXL"),
        ("depth_model.x", "depth-conditioned"),
        (UNET + "single_stream_modulation.lin.weight", "FLUX.2"),
    ],
)
def test_other_kinds_of_checkpoints_are_named(marker, kind, checkpoints, folders, tmp_path):
    refused({**load_file(checkpoints["sd1"]), marker: torch.zeros(1)}, tmp_path / "a.safetensors", folders["sd1"], kind)


def test_one_component_of_a_pipeline_is_no_checkpoint(folders):
    with pytest.raises(EffaceError, match="one component of a diffusers pipeline: give the pipeline's folder"):
        load_model(folders["sd1"] / "unet" / "diffusion_pytorch_model.safetensors")


def quantized(tensors, how):
    """The tensors with the denoiser's matrices quantized."""
    found = {}
    for name, tensor in tensors.items():
        if not (name.startswith(UNET) and tensor.ndim == 2):
            found[name] = tensor
        elif how == "scaled fp8":
            scale = tensor.abs().max() / 448
            found |= {name: (tensor / scale).to(torch.float8_e4m3fn), name.replace("weight", "scale_weight"): scale}
        elif how == "int8":
            found[name] = (tensor / tensor.abs().max() * 127).round().to(torch.int8)
        else:
            found |= {name: torch.zeros(8, 1, dtype=torch.uint8), f"{name}.absmax": torch.ones(1)}
    return found


@pytest.mark.parametrize("how", ["scaled fp8", "int8", "nf4"])
def test_quantized_weights_are_refused(how, checkpoints, folders, tmp_path):
    tensors = quantized(load_file(checkpoints["sd1"]), how)
    refused(tensors, tmp_path / "q.safetensors", folders["sd1"], "holds quantized weights.*give the model in float32")


@pytest.mark.parametrize(
    ("dtype", "extra", "metadata"),
    [
        (torch.float8_e4m3fn, "block.wscales", None),
        (torch.float8_e4m3fn, "block.weight_descale_inv", None),
        (torch.float8_e4m3fn, None, {"_quantization_metadata": "{}"}),
        (torch.float8_e8m0fnu, None, None),
        (torch.int32, None, None),
        (torch.int64, None, None),
        (torch.bool, None, None),
    ],
)
def test_weights_that_mean_nothing_by_themselves_are_refused(dtype, extra, metadata, checkpoints, folders, tmp_path):
    tensors = load_file(checkpoints["sd1"])
    name = UNET + "time_embed.0.weight"
    tensors |= {name: tensors[name].to(dtype), **({UNET + extra: torch.ones(1)} if extra else {})}
    save_file(tensors, tmp_path / "q.safetensors", metadata)
    with pytest.raises(EffaceError, match="holds quantized weights"):
        load_model(tmp_path / "q.safetensors", config=folders["sd1"])


@pytest.mark.parametrize(
    "end", ["attn2.to_k.weight", "decoder.conv_in.weight", "text_model.final_layer_norm.weight", "1.1.proj_in.weight"]
)
def test_a_tensor_of_another_shape_is_named(end, checkpoints, folders, tmp_path):
    tensors = load_file(checkpoints["sd1"])
    name = next(name for name in tensors if name.endswith(end))
    tensors[name] = tensors[name].flatten()[:4].clone()
    refused(tensors, tmp_path / "a.safetensors", folders["sd1"], rf"{end.split('.')[-2]}.*--model-config")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.gguf", b"GGUF", "quantized weights .GGUF"),
        ("a.safetensors", b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ("a.safetensors", b"<!DOCTYPE html><html>", "web page"),
    ],
)
def test_files_that_only_look_like_checkpoints_are_named(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EffaceError, match=message):
        load_model(tmp_path / name)


def test_bytes_behind_the_tensors_are_counted_and_the_cure_works(checkpoints, folders, tmp_path):
    data = checkpoints["sd1"].read_bytes()
    (tmp_path / "long.safetensors").write_bytes(data + bytes(16))
    with pytest.raises(EffaceError, match=r"16 bytes longer than its header says.*truncate -s -16 long\.safetensors"):
        load_model(tmp_path / "long.safetensors", config=folders["sd1"])
    (tmp_path / "long.safetensors").write_bytes((data + bytes(16))[:-16])
    load_model(tmp_path / "long.safetensors", config=folders["sd1"])


def test_a_damaged_setting_is_refused(folders, tmp_path):
    path = write_original(tiny_pipe(), tmp_path / "a.safetensors", {"efface.pipeline": "{}"})
    with pytest.raises(EffaceError, match=r"metadata efface\.pipeline are damaged"):
        load_model(path, config=folders["sd1"])
    path = write_original(
        tiny_sdxl_pipe(),
        tmp_path / "b.safetensors",
        {"efface.pipeline": '{"scheduler": {"_class_name": "os"}, "sample_size": 8, "pipeline": {}}'},
    )
    with pytest.raises(EffaceError, match="no scheduler 'os'"):
        load_model(path, config=folders["sdxl"])
