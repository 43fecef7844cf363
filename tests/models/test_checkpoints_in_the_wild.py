"""Checkpoints of other writers in one file: read right, or refused in one line that says what they are."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler
from helpers.exports import replacing_erasure, save_erasure
from helpers.fast import slow_but
from helpers.original import text_tensors, write_original
from helpers.tiny import PIPES, tiny_of, tiny_pipe, tiny_sd2_pipe, tiny_sdxl_pipe
from safetensors.torch import load_file, save_file

from efface import api
from efface.core.errors import EffaceError
from efface.models.loading import load_model
from efface.models.stable_diffusion import StableDiffusionModel

UNET = "model.diffusion_model."


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A tiny checkpoint of each family."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {family: write_original(tiny_of(family).pipe, root / f"{family}.safetensors") for family in PIPES}


def refused(tensors, path, config, match):
    save_file(tensors, path)
    with pytest.raises(EffaceError, match=match) as caught:
        load_model(path, config=config)
    assert "\n" not in str(caught.value)


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


def test_plain_eight_bit_floats_are_read(checkpoints, folders, tmp_path):
    tensors = load_file(checkpoints["sd1"])
    save_file({name: tensor.to(torch.float8_e5m2) for name, tensor in tensors.items()}, tmp_path / "e.safetensors")
    weight = load_model(tmp_path / "e.safetensors", config=folders["sd1"]).unet.conv_in.weight
    assert torch.equal(weight, tensors[UNET + "input_blocks.0.0.weight"].to(torch.float8_e5m2).float())


def test_bytes_behind_the_tensors_are_counted_and_the_cure_works(checkpoints, folders, tmp_path):
    data = checkpoints["sd1"].read_bytes()
    (tmp_path / "long.safetensors").write_bytes(data + bytes(16))
    with pytest.raises(EffaceError, match=r"16 bytes longer than its header says.*truncate -s -16 long\.safetensors"):
        load_model(tmp_path / "long.safetensors", config=folders["sd1"])
    (tmp_path / "long.safetensors").write_bytes((data + bytes(16))[:-16])
    load_model(tmp_path / "long.safetensors", config=folders["sd1"])


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
