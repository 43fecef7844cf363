"""Models that are not what they should be, at the command line: one line that names the cure, exit code 2, nothing written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from helpers.cli import QUICK, call, check_refused, content
from helpers.tiny import (
    POOLED,
    WIDTH_2,
    erasure_of,
    text_config,
    tiny_model,
    tiny_pipe,
    tiny_sdxl_pipe,
    tiny_text,
    tiny_tokenizer,
    tiny_unet,
)
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModelWithProjection

from efface.core.edits import Edit
from efface.core.errors import EffaceError
from efface.models.loading import load_model
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.tensor_conversion import to_blob


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("EFFACE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_pipe().save_pretrained(folder)
    return folder


def second(**sizes: int) -> CLIPTextModelWithProjection:
    """SDXL's second encoder."""
    how = {"hidden_size": WIDTH_2, "num_hidden_layers": 3, "hidden_act": "gelu", "projection_dim": POOLED, **sizes}
    return CLIPTextModelWithProjection(text_config(tiny_tokenizer("!", ("!",)), **how))


def refused_by_all(capfd, model: Path, artifact: Path, *words: str, alone: bool = True) -> None:
    """By every command that loads a model; ``alone``: the model itself is wrong, not the erasure on it."""
    folder = model.parent
    before = content(folder)
    own = (
        ("sample", "a cat", "--out", folder / "x.png", "--model", model),
        ("erase", "gun", "--out", folder / "x", "--model", model, *QUICK),
    )
    for command in (
        *(own if alone else ()),
        ("evaluate", artifact, "--benchmark", "pocket-weapon", "--model", model),
        ("attack", artifact, "--benchmark", "pocket-weapon", "--model", model),
        ("apply", artifact, "--to", model, "--out", folder / "x"),
        ("export", artifact, "--model", model, "--out", folder / "x"),
    ):
        check_refused(call(capfd, *command), *words, early=alone)
    assert content(folder) == before


@pytest.fixture(scope="module")
def artifact(tmp_path_factory) -> Path:
    """A LoRA for the tiny model."""
    model, out = tiny_model(), tmp_path_factory.mktemp("made") / "e"
    name, p = next(iter(model.parameter_group("cross_kv").parameters.items()))
    factors = {"up": to_blob(torch.ones(p.shape[0], 1)), "down": to_blob(torch.ones(1, p.shape[1]))}
    edit = Edit("unet", "low_rank", {f"{name}.up": "up", f"{name}.down": "down"})
    erasure_of(model, [edit], factors).save(out)
    return out


def test_no_pipeline(tmp_path, capfd, artifact):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("precious")
    refused_by_all(capfd, tmp_path / "home", artifact, "no diffusers pipeline: it has no model_index.json")


@pytest.mark.parametrize("part", ["text_encoder", "tokenizer", "unet", "vae", "scheduler"])
def test_a_missing_component(part, tmp_path, tiny, capfd, artifact):
    shutil.copytree(tiny, tmp_path / "m")
    shutil.rmtree(tmp_path / "m" / part)
    refused_by_all(capfd, tmp_path / "m", artifact, f"has no {part}: save the whole pipeline")


@pytest.mark.parametrize("part", ["text_encoder", "unet", "vae"])
def test_a_component_that_lacks_a_tensor(part, tmp_path, tiny, capfd, artifact):
    """The libraries fill it at random, or with nothing."""
    shutil.copytree(tiny, tmp_path / "m")
    path = next((tmp_path / "m" / part).glob("*.safetensors"))
    tensors = load_file(path)
    tensors.pop(sorted(tensors)[3])
    save_file(tensors, path, metadata={"format": "pt"})
    refused_by_all(capfd, tmp_path / "m", artifact, f"{part} lacks 1 of its tensors", "save the whole pipeline again")


def test_a_text_encoder_of_another_width(tmp_path, capfd, artifact):
    one, two, pooled, words = tiny_pipe(), tiny_sdxl_pipe(), tiny_sdxl_pipe(), tiny_pipe()
    one.text_encoder = tiny_text(tiny_tokenizer(), hidden_size=48)
    two.text_encoder_2, pooled.text_encoder_2 = second(hidden_size=40), second(projection_dim=28)
    words.tokenizer = tiny_tokenizer("!", ("!",))
    for name, pipe, said in (
        ("one", one, ("unet reads states 32 wide, not text_encoder's 48",)),
        ("two", two, ("unet reads states 56 wide, not text_encoder's 32 and text_encoder_2's 40",)),
        ("pooled", pooled, ("reads a pooled state 20 wide, not text_encoder_2's 28",)),
        ("words", words, ("tokenizer has 61 tokens, its text_encoder 60",)),
    ):
        pipe.save_pretrained(tmp_path / name / "m")
        if name == "one":
            refused_by_all(capfd, tmp_path / name / "m", artifact, *said)
        check_refused(
            call(capfd, "sample", "a cat", "--model", tmp_path / name / "m", "--out", tmp_path / "x.png"), *said
        )


def test_mixed_precisions_in_memory_and_on_the_disk(tmp_path, capfd):
    pipe = tiny_pipe()
    pipe.unet.to(torch.float16)
    with pytest.raises(EffaceError, match=r"mixes precisions .*unet float16.*choose one with dtype=") as caught:
        load_model(pipe)
    assert "\n" not in str(caught.value)
    assert load_model(pipe, dtype="float32").unet.dtype == torch.float32, "the cure"
    pipe = tiny_pipe()
    pipe.unet.to(torch.float16)
    pipe.save_pretrained(tmp_path / "m")
    said = call(capfd, "sample", "a cat", "-n", 1, "--steps", 1, "--model", tmp_path / "m", "--out", tmp_path / "x.png")
    assert said.code == 0, "files are read in one precision, whatever they hold"


def test_a_lora_for_another_base(tmp_path, tiny, capfd, artifact):
    other, wide = tiny_pipe(1), tiny_pipe(unet={"cross_attention_dim": 48}, text={"hidden_size": 48})
    other.save_pretrained(tmp_path / "other")
    wide.save_pretrained(tmp_path / "wide")
    for model, words in (
        ("other", ("other is not the base of this erasure", "% from the one")),
        ("wide", ("wide", "this erasure")),
    ):
        refused_by_all(capfd, tmp_path / model, artifact, *words, alone=False)
    forced = call(capfd, "apply", artifact, "--to", tmp_path / "wide", "--out", tmp_path / "x", "--force")
    check_refused(forced, "low-rank factors", "do not fit")
    assert not (tmp_path / "x").exists()
    save_file({"lora_unet_x.lora_up.weight": torch.zeros(2, 1)}, tmp_path / "lora.safetensors")
    check_refused(
        call(capfd, "sample", "a cat", "--model", tmp_path / "lora.safetensors", "--out", tmp_path / "x.png"),
        "is a LoRA, no checkpoint: give the model that it belongs to",
    )


def test_out_of_memory_says_what_to_lower(tmp_path, tiny, capfd, monkeypatch, pocket):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    tensors = {name: to_blob(p * 0.5) for name, p in pocket.parameter_group("cross_kv").parameters.items()}
    erasure_of(pocket, [Edit("unet", "replace", {n: n for n in tensors})], tensors).save(tmp_path / "e")
    before = content(tmp_path)
    monkeypatch.setattr(StableDiffusionModel, "trajectory", full)
    drawing = ("out of memory", "images at once are too many: lower batch, or choose a smaller dtype")
    sample = call(capfd, "sample", "a cat", "--out", tmp_path / "x.png", "--model", tiny)
    check_refused(sample, *drawing, early=False)
    for verb in ("evaluate", "attack"):
        said = call(capfd, verb, tmp_path / "e", "--benchmark", "pocket-weapon", "--model", "pocket", "--limit", 2)
        check_refused(said, *drawing, early=False)
    assert content(tmp_path) == before
    said = call(capfd, "erase", "gun", "--out", tmp_path / "y", "--model", tiny, *QUICK)
    check_refused(said, "out of memory: lower batch", "--set batch=1", "--dtype bfloat16", early=False)
    assert not (tmp_path / "y").exists()
    monkeypatch.undo()
    monkeypatch.setattr(type(tiny_pipe()), "to", full)
    check_refused(
        call(capfd, "sample", "a cat", "--out", tmp_path / "x.png", "--model", tiny),
        "the model does not fit",
        "smaller dtype",
    )


def test_a_unet_for_other_states_is_told_in_memory():
    pipe = tiny_pipe()
    pipe.unet = tiny_unet(cross_attention_dim=24)
    with pytest.raises(EffaceError, match="reads states 24 wide, not text_encoder's 32"):
        load_model(pipe)
