"""Models in: folders, checkpoints, hub ids; and whatever is none of these, in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from helpers.cli import call, check_refused
from helpers.original import narrow_pipe, write_original
from helpers.tiny import PIPES, state_bytes, tiny_of
from safetensors.torch import load_file, save_file

from efface.core.errors import EffaceError, UnknownNameError
from efface.models import builder, memory
from efface.models.fingerprint import fingerprint
from efface.models.loading import ModelRef, load_model, locate
from efface.models.single_file import clip_tokenizer
from efface.models.stable_diffusion import StableDiffusionModel

FAMILIES = ("sd1", "sd2", "sdxl")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A tiny model of each family in diffusers layout."""
    root = tmp_path_factory.mktemp("models")
    for family in FAMILIES:
        PIPES[family]().save_pretrained(root / family)
    return {family: root / family for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_goes_round(family, folders):
    model, original = load_model(folders[family]), tiny_of(family)
    assert (model.name, model.family) == (family, family)
    assert model.unet.dtype == torch.float32
    assert state_bytes(model) == state_bytes(original)
    assert torch.equal(
        model.sample(["a gun"], seeds=[1], num_inference_steps=2),
        original.sample(["a gun"], seeds=[1], num_inference_steps=2),
    )
    assert load_model(ModelRef(folders[family], dtype="bf16")).unet.dtype == torch.bfloat16


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_goes_round(family, folders, tmp_path):
    original = tiny_of(family)
    path = write_original(original.pipe, tmp_path / "one.safetensors")
    model = load_model(path, config=folders[family])
    assert (model.name, model.family) == ("one", family)
    ours, theirs = state_bytes(model), state_bytes(original)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert model.fingerprint() == original.fingerprint()
    torch.testing.assert_close(
        model.sample(["a gun"], seeds=[1], num_inference_steps=2),
        original.sample(["a gun"], seeds=[1], num_inference_steps=2),
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_of_the_published_blocks_goes_round(family, tmp_path):
    """The shipped configurations and tokenizers, with every block and layer that they have, only narrower."""
    pipe = narrow_pipe(family)
    pipe.save_pretrained(tmp_path / "config")
    for tokenizer in (tmp_path / "config").glob("tokenizer*"):
        shutil.rmtree(tokenizer)
    original = StableDiffusionModel(pipe, "narrow")
    model = load_model(write_original(pipe, tmp_path / "one.safetensors"), config=tmp_path / "config")
    ours, theirs = state_bytes(model), state_bytes(original)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert model.family == family
    prompts = ["a photo of a cat in the snow"]
    torch.testing.assert_close(model.encode(prompts).states, original.encode(prompts).states)


def test_a_checkpoint_says_what_it_predicts(folders, tmp_path):
    pipe = tiny_of("sd2").pipe
    told = write_original(pipe, tmp_path / "told.safetensors", {"modelspec.prediction_type": "epsilon"})
    assert load_model(told, config=folders["sd2"]).scheduler.config.prediction_type == "epsilon"
    marked = write_original(
        tiny_of("sdxl").pipe, tmp_path / "v.safetensors", v_pred=torch.tensor([]), ztsnr=torch.tensor([])
    )
    config = load_model(marked, config=folders["sdxl"]).scheduler.config
    assert (config.prediction_type, config.rescale_betas_zero_snr, config.timestep_spacing) == (
        "v_prediction",
        True,
        "trailing",
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_of_other_sizes_than_the_shipped_ones_is_one_line(family, tmp_path):
    path = write_original(tiny_of(family).pipe, tmp_path / "one.safetensors")
    with pytest.raises(EffaceError, match="does not load") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def test_the_shipped_configurations_are_the_published_sizes():
    """Parameters of UNet, autoencoder and text encoders, as published."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    folder = Path(builder.__file__).parent / "data" / "original"

    def count(kind, config):
        with torch.device("meta"):
            return sum(p.numel() for p in kind(config).parameters())

    sizes = {
        "sd1": (859_520_964, 123_060_480),
        "sd2": (865_910_724, 340_387_840),
        "sd2-base": (865_910_724, 340_387_840),
    }
    for name, expected in {**sizes, "sdxl": (2_567_463_684, 123_060_480)}.items():
        unet = count(UNet2DConditionModel.from_config, UNet2DConditionModel.load_config(folder / name / "unet"))
        assert (unet, count(CLIPTextModel, CLIPTextConfig.from_pretrained(folder / name / "text_encoder"))) == expected
        assert count(AutoencoderKL.from_config, AutoencoderKL.load_config(folder / name / "vae")) == 83_653_863
        kind = DDIMScheduler.load_config(folder / name / "scheduler")["prediction_type"]
        assert kind == ("v_prediction" if name == "sd2" else "epsilon")
    assert (
        count(CLIPTextModelWithProjection, CLIPTextConfig.from_pretrained(folder / "sdxl" / "text_encoder_2"))
        == 694_659_840
    )


def test_the_shipped_tokenizer_is_clips():
    tokenizer, other = clip_tokenizer(), clip_tokenizer("!")
    assert len(tokenizer) == len(other) == 49_408
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert (tokenizer.pad_token_id, other.pad_token_id, tokenizer.model_max_length) == (49407, 0, 77)


@pytest.mark.parametrize("suffix", [".ckpt", ".bin", ".pt", ".pth"])
def test_pickles_are_refused_unread(suffix, tmp_path, capfd):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"\x80\x04not even opened")
    with pytest.raises(
        EffaceError, match=r"is a pickle.*convert it in a sandbox.*from_single_file\('model.*save_pretrained"
    ):
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


@pytest.mark.parametrize("family", FAMILIES)
def test_a_missing_component_is_named(family, folders, tmp_path):
    parts = [
        "text_encoder",
        "unet",
        "vae",
        "tokenizer",
        "scheduler",
        *(["text_encoder_2", "tokenizer_2"] if family == "sdxl" else []),
    ]
    for part in parts:
        broken = tmp_path / part
        shutil.copytree(folders[family], broken)
        shutil.rmtree(broken / part)
        with pytest.raises(EffaceError, match=f"has no {part}: save the whole pipeline"):
            load_model(broken)


def test_folders_that_are_no_pipelines(folders, tmp_path):
    index = tmp_path / "model_index.json"
    for text, said in (
        (
            '{"_class_name": "FluxPipeline"}',
            "is a FluxPipeline, which is not supported: there are StableDiffusionPipeline",
        ),
        ('{"_class_name": "StableDiffusionXLImg2ImgPipeline"}', "not supported"),
        ("{}", "names no pipeline"),
        ("[1]", "names no pipeline"),
    ):
        index.write_text(text)
        with pytest.raises(EffaceError, match=said):
            load_model(tmp_path)
    index.write_text("{")
    with pytest.raises(EffaceError, match="model_index"):
        load_model(tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(folders["sd1"], broken)
    weights = broken / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(EffaceError, match="does not load as a Stable Diffusion pipeline") as caught:
        load_model(broken)
    assert "\n" not in str(caught.value)
    shutil.copytree(folders["sd1"], tmp_path / "lacking")
    path = tmp_path / "lacking" / "unet" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "cross_attention_dim": 48}))
    with pytest.raises(EffaceError, match="does not load"):
        load_model(tmp_path / "lacking")


def test_files_that_are_no_checkpoints(folders, tmp_path):
    path = write_original(tiny_of("sd1").pipe, tmp_path / "one.safetensors")
    tensors = load_file(path)
    wrong = tmp_path / "wrong.safetensors"

    def refused(kept, said, **more):
        save_file({**kept, **more}, wrong)
        with pytest.raises(EffaceError, match=said) as caught:
            load_model(wrong, config=folders["sd1"])
        assert "\n" not in str(caught.value)

    one = torch.zeros(1)
    refused({"x": one}, "is no checkpoint of Stable Diffusion")
    refused({"lora_unet_down.lora_up.weight": one}, "is a LoRA")
    refused({k: t for k, t in tensors.items() if not k.startswith("cond_stage")}, "has no text_encoder")
    refused({k: t for k, t in tensors.items() if not k.startswith("first_stage")}, "has no vae")
    refused({k: t for k, t in tensors.items() if not k.startswith("model.")}, "has no unet")
    refused(tensors, "refiner", **{"conditioner.embedders.0.model.text_projection": one})
    wrong.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(EffaceError, match="cut short"):
        load_model(wrong)
    for config, said in (
        (tmp_path / "none", "no folder in diffusers layout, and none of sd1, sd2"),
        (folders["sdxl"], "does not load|does not fit"),
    ):
        with pytest.raises(EffaceError, match=said):
            load_model(path, config=config)


def test_only_fp16_weights(folders, tmp_path):
    StableDiffusionPipeline.from_pretrained(folders["sd1"], dtype=torch.float16).save_pretrained(
        tmp_path / "half", variant="fp16"
    )
    assert load_model(tmp_path / "half").unet.dtype == torch.float32


def test_what_a_reference_can_be(tmp_path):
    assert (locate("pocket").kind, locate("org/name").kind, locate("org/name").name) == ("folder", "hub", "org/name")
    for wrong in ("poket", "a/b/c", "../nowhere", "https://x/y"):
        with pytest.raises(
            UnknownNameError,
            match=r"a \.safetensors checkpoint, a hub id such as org/name, any folder in diffusers layout",
        ):
            locate(wrong)
    with pytest.raises(EffaceError, match=r"there is no checkpoint none\.safetensors"):
        locate("none.safetensors")
    for more, said in (
        ({"dtype": "flaot16"}, "did you mean 'float16'"),
        ({"revision": "main"}, "a revision belongs to a hub id"),
        ({"config": "sd1"}, "a config belongs to a .safetensors checkpoint"),
        ({"device": "gpu"}, "no device 'gpu'"),
        ({"device": "cuda:99"}, "no device cuda:99 here"),
    ):
        with pytest.raises(EffaceError, match=said):
            load_model("pocket", **more)


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch, capfd, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for more in ({}, {"revision": "v1"}):
        with pytest.raises(
            EffaceError, match=r"nobody/nothing.* is no folder here, and the hub cannot be reached"
        ) as caught:
            load_model("nobody/nothing", **more)
        assert "\n" not in str(caught.value)
    said = call(capfd, "sample", "a cat", "--model", "nobody/nothing", "--revision", "v1", "--out", tmp_path / "x.png")
    check_refused(said, "nobody/nothing@v1", "HF_HUB_OFFLINE")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_hub_id_is_loaded_from_what_the_library_fetched(family, folders, monkeypatch):
    asked = {}

    def index(ref, name, revision=None):
        return str(folders[family] / name)

    def download(ref, **how):
        asked.update(how, ref=ref)
        return str(folders[family])

    monkeypatch.setattr("efface.models.hub.hf_hub_download", index)
    monkeypatch.setattr("diffusers.DiffusionPipeline.download", download)
    model = load_model("org/name", revision="v2")
    assert (model.name, model.family) == ("org/name", family)
    assert (asked["ref"], asked["revision"], asked["use_safetensors"]) == ("org/name", "v2", True)
    monkeypatch.setattr("efface.models.hub.check_kind", lambda *_: (_ for _ in ()).throw(EffaceError("not supported")))
    with pytest.raises(EffaceError, match="not supported"):
        load_model("org/name")


def test_too_little_memory_says_what_to_lower(monkeypatch, folders):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    for kind in (StableDiffusionPipeline, StableDiffusionXLPipeline):
        monkeypatch.setattr(kind, "to", full)
    for family in FAMILIES:
        with pytest.raises(EffaceError, match="out of memory: the model does not fit: choose a smaller dtype"):
            load_model(folders[family])
    for error in (
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ):
        with pytest.raises(EffaceError, match="out of memory: lower batch"), memory.oom_as_user_error("lower batch"):
            raise error
    with pytest.raises(RuntimeError, match="shapes"), memory.oom_as_user_error("lower batch"):
        raise RuntimeError("shapes differ")


def test_what_a_device_computes_in(monkeypatch):
    assert builder.default_dtype(torch.device("cpu")) == torch.float32
    assert builder.default_dtype(torch.device("mps")) == torch.float32
    for there, dtype in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, there=there: there)
        assert builder.default_dtype(torch.device("cuda")) == dtype


def test_the_same_weights_in_any_layout_are_the_same_base(folders, tmp_path):
    path = write_original(tiny_of("sd1").pipe, tmp_path / "one.safetensors")
    assert fingerprint(load_model(path, config=folders["sd1"]).text_encoder) == fingerprint(
        load_model(folders["sd1"]).text_encoder
    )
