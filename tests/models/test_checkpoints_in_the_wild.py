"""Checkpoints of other writers in one file are read right, and what they say survives export and loading."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler
from helpers.exports import replacing_erasure, save_erasure
from helpers.fast import slow_but
from helpers.original import UNET, text_tensors, write_original
from helpers.tiny import PIPES, tiny_of, tiny_sd2_pipe, tiny_sdxl_pipe
from safetensors.torch import load_file, save_file

from efface import api
from efface.models.loading import load_model
from efface.models.stable_diffusion import StableDiffusionModel


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_text_encoders_named_without_the_level_text_model(family, checkpoints, folders, tmp_path):
    tensors = load_file(checkpoints[family])
    save_file({name.replace("text_model.", ""): tensor for name, tensor in tensors.items()}, tmp_path / "a.safetensors")
    model = load_model(tmp_path / "a.safetensors", config=folders[family])
    assert model.fingerprint() == tiny_of(family).fingerprint()


def test_sd2_and_sdxl_text_encoders_named_as_in_transformers(checkpoints, folders, tmp_path):
    for family, component, old, new in (
        ("sd2", "text_encoder", "cond_stage_model.model.", "cond_stage_model.transformer."),
        ("sdxl", "text_encoder_2", "conditioner.embedders.1.model.", "conditioner.embedders.1.transformer."),
    ):
        model = tiny_of(family)
        tensors = {name: t for name, t in load_file(checkpoints[family]).items() if not name.startswith(old)}
        tensors |= {new + name: t.contiguous() for name, t in model.components[component].state_dict().items()}
        save_file(tensors, tmp_path / f"{family}.safetensors")
        if family == "sd2":  # the published width tells it from Stable Diffusion 1; the tiny model is narrower
            assert load_model(tmp_path / "sd2.safetensors", config=folders["sd2"]).family == "sd2"
        else:
            assert (
                load_model(tmp_path / "sdxl.safetensors", config=folders["sdxl"]).fingerprint() == model.fingerprint()
            )


def test_plain_eight_bit_floats_are_read(checkpoints, folders, tmp_path):
    tensors = load_file(checkpoints["sd1"])
    save_file({name: tensor.to(torch.float8_e5m2) for name, tensor in tensors.items()}, tmp_path / "e.safetensors")
    weight = load_model(tmp_path / "e.safetensors", config=folders["sd1"]).unet.conv_in.weight
    assert torch.equal(weight, tensors[UNET + "input_blocks.0.0.weight"].to(torch.float8_e5m2).float())


def test_it_is_said_which_of_ema_and_plain_weights_are_read(checkpoints, folders, tmp_path):
    tensors = load_file(checkpoints["sd1"])
    save_file({**tensors, "model_ema.diffusion_modelconv": torch.zeros(1)}, tmp_path / "ema.safetensors")
    with pytest.warns(UserWarning, match="EMA weights beside the plain ones; read are the plain ones"):
        load_model(tmp_path / "ema.safetensors", config=folders["sd1"])


SCHEDULERS = {
    "sd1": {"timestep_spacing": "trailing", "beta_end": 0.02},
    "sd2": {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
    "sdxl": {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "linspace"},
}


@pytest.mark.parametrize("format", ["single-file", "diffusers"])
@pytest.mark.parametrize("family", slow_but(["sd1"], PIPES))
def test_what_a_model_says_of_its_training_survives_export_and_loading(family, format, folders, tmp_path):
    pipe = PIPES[family]()
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, **SCHEDULERS[family])
    pipe.unet.register_to_config(sample_size=16)
    model = StableDiffusionModel(pipe, "trained")
    folder = save_erasure(replacing_erasure(model, "cross_kv"), tmp_path / "e")
    api.export(folder, tmp_path / "out", format=format, model=model)
    (file,) = (tmp_path / "out").glob("*.safetensors") if format == "single-file" else [tmp_path / "out"]
    again = load_model(file, config=folders[family] if format == "single-file" else None)
    for ours, before in ((again.scheduler, model.scheduler), (again.pipe.scheduler, pipe.scheduler)):
        assert torch.equal(ours.alphas_cumprod, before.alphas_cumprod)
        assert {k: v for k, v in ours.config.items() if k[0] != "_"} == {
            k: v for k, v in before.config.items() if k[0] != "_"
        }
    assert type(again.pipe.scheduler) is type(pipe.scheduler)
    assert again.image_size == model.image_size
    if format == "single-file":
        names = load_file(file).keys()
        assert ("v_pred" in names, "ztsnr" in names) == ((False, False) if family == "sd1" else (True, True))


def test_parts_of_sd2_that_no_component_holds_survive_export_and_loading(folders, tmp_path):
    pipe = tiny_sd2_pipe()
    extra = {
        "cond_stage_model.model.text_projection": torch.rand(32, 32),
        "cond_stage_model.model.logit_scale": torch.ones(()),
    }
    last = {
        name.replace("resblocks.1.", "resblocks.23."): tensor.contiguous() + 1
        for name, tensor in text_tensors(pipe).items()
        if "resblocks.1." in name
    }
    path = write_original(pipe, tmp_path / "two.safetensors", **extra, **last)
    model = load_model(path, config=folders["sd2"])
    folder = save_erasure(replacing_erasure(model, "cross_kv"), tmp_path / "e")
    api.export(folder, tmp_path / "out", format="single-file", model=model)
    (file,) = (tmp_path / "out").glob("*.safetensors")
    exported = load_file(file)
    for name, tensor in {**extra, **last}.items():
        assert torch.equal(exported[name], tensor), name


def test_added_tokens_do_not_move_the_pooled_state():
    images = []
    for eos in (2, 59, 7):
        pipe = tiny_sdxl_pipe()
        for tokenizer, encoder in ((pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)):
            tokenizer.add_tokens(["<x>"])
            torch.manual_seed(1)
            encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
            encoder.config.eos_token_id = eos
            getattr(encoder, "text_model", encoder).eos_token_id = eos
        images.append(StableDiffusionModel(pipe, "xl").sample(["a <x> gun"], seeds=[1], num_inference_steps=2))
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[0], images[2])


def test_ddim_of_the_shipped_sdxl_ends_without_noise_like_its_own_sampler():
    from helpers.original import SHIPPED

    assert DDIMScheduler.from_pretrained(SHIPPED / "sdxl" / "scheduler").config.set_alpha_to_one
