"""Folders that are not complete, supported pipelines in safetensors are refused in one line."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from diffusers import StableDiffusionPipeline
from helpers.cli import call, check_refused
from helpers.tiny import PIPES

from efface.core.errors import EffaceError
from efface.models.diffusers_folder import REQUIRED_COMPONENTS
from efface.models.loading import load_model


@pytest.mark.parametrize("suffix", [".ckpt", ".bin", ".pt", ".pth"])
def test_pickles_are_refused_unread(suffix, tmp_path, capfd):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"\x80\x04not even opened")
    message = r"is a pickle.*convert it in a sandbox.*from_single_file\('model.*save_pretrained"
    with pytest.raises(EffaceError, match=message):
        load_model(path)
    check_refused(call(capfd, "sample", "a cat", "--model", path, "--out", tmp_path / "x.png"), "is a pickle")


def test_a_folder_of_pickles_is_refused(folders, tmp_path):
    shutil.copytree(folders["sd1"], tmp_path / "old")
    weights = tmp_path / "old" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(EffaceError, match=r"unet holds pickles.*use_safetensors=False"):
        load_model(tmp_path / "old")
    weights.with_suffix(".bin").unlink()
    with pytest.raises(EffaceError, match="unet holds no weights"):
        load_model(tmp_path / "old")


@pytest.mark.parametrize("family", PIPES)
def test_a_missing_component_is_named(family, folders, tmp_path):
    class_name = "StableDiffusionXLPipeline" if family == "sdxl" else "StableDiffusionPipeline"
    assert len(REQUIRED_COMPONENTS[class_name]) == (7 if family == "sdxl" else 5)
    for component in REQUIRED_COMPONENTS[class_name]:
        broken = tmp_path / component
        shutil.copytree(folders[family], broken)
        shutil.rmtree(broken / component)
        with pytest.raises(EffaceError, match=f"has no {component}: save the whole pipeline"):
            load_model(broken)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (
            '{"_class_name": "PixArtSigmaPipeline"}',
            "is a PixArtSigmaPipeline, which is not supported: there are StableDiffusionPipeline",
        ),
        ('{"_class_name": "StableDiffusionXLImg2ImgPipeline"}', "not supported"),
        ("{}", "does not load.*names no pipeline"),
        ("[1]", "names no pipeline"),
        ("{", "model_index"),
    ],
)
def test_an_index_of_no_supported_pipeline_is_refused(index, message, tmp_path):
    (tmp_path / "model_index.json").write_text(index)
    with pytest.raises(EffaceError, match=message):
        load_model(tmp_path)


def test_a_folder_without_an_index_is_refused(tmp_path):
    with pytest.raises(EffaceError, match=r"no model_index\.json"):
        load_model(tmp_path)


def test_damaged_weights_are_reported_in_one_line(folders, tmp_path):
    shutil.copytree(folders["sd1"], tmp_path / "broken")
    weights = tmp_path / "broken" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(EffaceError, match="was cut short: it lacks 100 bytes") as caught:
        load_model(tmp_path / "broken")
    assert "\n" not in str(caught.value)


def test_weights_of_another_shape_than_configured_are_refused(folders, tmp_path):
    shutil.copytree(folders["sd1"], tmp_path / "other")
    path = tmp_path / "other" / "unet" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "cross_attention_dim": 48}))
    with pytest.raises(EffaceError, match="does not load"):
        load_model(tmp_path / "other")


def test_a_folder_with_fp16_weights_only_loads(folders, tmp_path):
    pipe = StableDiffusionPipeline.from_pretrained(folders["sd1"], dtype=torch.float16)
    pipe.save_pretrained(tmp_path / "half", variant="fp16")
    assert load_model(tmp_path / "half").unet.dtype == torch.float32
