"""Checkpoints in one file: the same weights as the pipeline, shipped configurations, and errors of one line."""

from __future__ import annotations

import shutil

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from helpers.fast import slow_but
from helpers.original import SHIPPED, narrow_pipe, write_original
from helpers.tiny import PIPES, state_bytes, tiny_of
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from efface.core.errors import EffaceError
from efface.models.clip_tokenizer import clip_tokenizer
from efface.models.loading import load_model
from efface.models.stable_diffusion import StableDiffusionModel


def check_same_bytes(model, original):
    ours, theirs = state_bytes(model), state_bytes(original)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


@pytest.mark.parametrize("family", PIPES)
def test_a_checkpoint_loads_with_the_same_weights(family, folders, tmp_path):
    original = tiny_of(family)
    path = write_original(original.pipe, tmp_path / "one.safetensors")
    model = load_model(path, config=folders[family])
    assert (model.name, model.family) == ("one", family)
    check_same_bytes(model, original)
    assert model.fingerprint() == original.fingerprint()
    torch.testing.assert_close(
        model.sample(["a gun"], seeds=[1], num_inference_steps=2),
        original.sample(["a gun"], seeds=[1], num_inference_steps=2),
    )


@pytest.mark.parametrize("family", slow_but(["sd1"], PIPES))
def test_a_checkpoint_with_all_published_blocks_loads(family, tmp_path):
    """The shipped configurations and tokenizers, with every block and layer that they have, only narrower."""
    pipe = narrow_pipe(family)
    pipe.save_pretrained(tmp_path / "config")
    for tokenizer in (tmp_path / "config").glob("tokenizer*"):
        shutil.rmtree(tokenizer)
    original = StableDiffusionModel(pipe, "narrow")
    model = load_model(write_original(pipe, tmp_path / "one.safetensors"), config=tmp_path / "config")
    check_same_bytes(model, original)
    assert model.family == family
    prompts = ["a photo of a cat in the snow"]
    torch.testing.assert_close(model.encode(prompts).states, original.encode(prompts).states)


def test_a_checkpoint_states_its_prediction_type(folders, tmp_path):
    metadata = {"modelspec.prediction_type": "epsilon"}
    path = write_original(tiny_of("sd2").pipe, tmp_path / "metadata.safetensors", metadata)
    assert load_model(path, config=folders["sd2"]).scheduler.config.prediction_type == "epsilon"
    markers = {"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])}
    path = write_original(tiny_of("sdxl").pipe, tmp_path / "markers.safetensors", **markers)
    config = load_model(path, config=folders["sdxl"]).scheduler.config
    assert config.prediction_type == "v_prediction"
    assert config.rescale_betas_zero_snr
    assert config.timestep_spacing == "trailing"


@pytest.mark.parametrize("family", PIPES)
def test_other_sizes_than_the_shipped_ones_are_reported_in_one_line(family, tmp_path):
    path = write_original(tiny_of(family).pipe, tmp_path / "one.safetensors")
    with pytest.raises(EffaceError, match=r"lacks \d+ of the tensors of its unet.*--model-config") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def count(build, config):
    with torch.device("meta"):
        return sum(p.numel() for p in build(config).parameters())


@pytest.mark.parametrize(
    ("name", "unet", "text_encoder"),
    [
        ("sd1", 859_520_964, 123_060_480),
        ("sd2", 865_910_724, 340_387_840),
        ("sd2-base", 865_910_724, 340_387_840),
        ("sdxl", 2_567_463_684, 123_060_480),
    ],
)
def test_shipped_configurations_have_the_published_sizes(name, unet, text_encoder):
    """Parameters of UNet, autoencoder and text encoders, as published."""
    folder = SHIPPED / name
    assert count(UNet2DConditionModel.from_config, UNet2DConditionModel.load_config(folder / "unet")) == unet
    assert count(CLIPTextModel, CLIPTextConfig.from_pretrained(folder / "text_encoder")) == text_encoder
    assert count(AutoencoderKL.from_config, AutoencoderKL.load_config(folder / "vae")) == 83_653_863
    prediction_type = DDIMScheduler.load_config(folder / "scheduler")["prediction_type"]
    assert prediction_type == ("v_prediction" if name == "sd2" else "epsilon")
    if name == "sdxl":
        config = CLIPTextConfig.from_pretrained(folder / "text_encoder_2")
        assert count(CLIPTextModelWithProjection, config) == 694_659_840


def test_the_shipped_tokenizer_is_clips():
    tokenizer, other = clip_tokenizer(), clip_tokenizer("!")
    assert len(tokenizer) == len(other) == 49_408
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert (tokenizer.pad_token_id, other.pad_token_id, tokenizer.model_max_length) == (49407, 0, 77)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_original(tiny_of("sd1").pipe, tmp_path_factory.mktemp("checkpoint") / "one.safetensors")


def test_files_that_are_not_checkpoints_are_refused(checkpoint, folders, tmp_path):
    tensors = load_file(checkpoint)
    path = tmp_path / "wrong.safetensors"
    one = torch.zeros(1)

    def without(prefix):
        return {name: tensor for name, tensor in tensors.items() if not name.startswith(prefix)}

    cases = (
        ({"x": one}, "is no checkpoint of Stable Diffusion"),
        ({"lora_unet_down.lora_up.weight": one}, "is a LoRA"),
        (without("cond_stage"), "has no text_encoder"),
        (without("first_stage"), "has no vae"),
        (without("model."), "has no unet"),
        ({**tensors, "conditioner.embedders.0.model.text_projection": one}, "refiner"),
    )
    for given, message in cases:
        save_file(given, path)
        with pytest.raises(EffaceError, match=message) as caught:
            load_model(path, config=folders["sd1"])
        assert "\n" not in str(caught.value)
    path.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(EffaceError, match="cut short"):
        load_model(path)


def test_configurations_that_do_not_fit_are_refused(checkpoint, folders, tmp_path):
    with pytest.raises(EffaceError, match="no folder in diffusers layout, and none of sd1, sd2"):
        load_model(checkpoint, config=tmp_path / "none")
    with pytest.raises(EffaceError, match=r"does not fit it"):
        load_model(checkpoint, config=folders["sdxl"])
