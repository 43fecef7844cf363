"""Models that are incomplete or do not fit: one line with the cure, exit code 2, and no file written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from helpers.cli import MISMATCH, QUICK, call, check_refused, content
from helpers.fast import slow_but
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


@pytest.fixture(scope="module")
def lora_folder(tmp_path_factory) -> Path:
    """An erasure with a LoRA for the tiny model."""
    model, out = tiny_model(), tmp_path_factory.mktemp("erasures") / "e"
    name, p = next(iter(model.parameter_group("cross_kv").parameters.items()))
    factors = {"up": to_blob(torch.ones(p.shape[0], 1)), "down": to_blob(torch.ones(1, p.shape[1]))}
    edit = Edit("unet", "low_rank", {f"{name}.up": "up", f"{name}.down": "down"})
    erasure_of(model, [edit], factors).save(out)
    return out


def check_all_commands(
    capfd,
    model: Path,
    artifact: Path,
    *words: str,
    base_only: bool = False,
    early: bool = True,
) -> None:
    """Checks that every command that loads a model refuses this one, and that none writes a file.

    With `base_only`, the model is valid, but not the base of the erasure: only commands with an erasure refuse it.
    """
    folder = model.parent
    before = content(folder)
    without_erasure = (
        ("sample", "a cat", "--steps", 2, "--out", folder / "x.png", "--model", model),
        ("erase", "gun", "--out", folder / "x", "--model", model, *QUICK),
    )
    for command in (
        *(() if base_only else without_erasure),
        ("evaluate", artifact, "--benchmark", "pocket-weapon", *MISMATCH, "--model", model, "--limit", 1),
        ("attack", artifact, "--benchmark", "pocket-weapon", *MISMATCH, "--model", model, "--limit", 1),
        ("compare", artifact, "a cat", "--steps", 2, "--model", model, "--out", folder / "x.html"),
        ("transfer", artifact, "--to", model, "--out", folder / "x"),
        ("export", artifact, "--model", model, "--out", folder / "x"),
    ):
        check_refused(call(capfd, *command), *words, early=early and not base_only)
    assert content(folder) == before
    assert not (artifact / "evidence").exists()


def test_a_folder_without_a_pipeline(tmp_path, capfd, lora_folder):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("precious")
    check_all_commands(capfd, tmp_path / "home", lora_folder, "it has no model_index.json", "pipe.save_pretrained")


@pytest.mark.parametrize("component", ["text_encoder", "tokenizer", "unet", "vae", "scheduler"])
def test_a_missing_component(component, tmp_path, model_folder, capfd, lora_folder):
    shutil.copytree(model_folder, tmp_path / "m")
    shutil.rmtree(tmp_path / "m" / component)
    check_all_commands(capfd, tmp_path / "m", lora_folder, f"has no {component}: save the whole pipeline")


@pytest.mark.parametrize("component", slow_but(["unet"], ["text_encoder", "unet", "vae"]))
def test_a_missing_tensor(component, tmp_path, model_folder, capfd, lora_folder):
    """Without the check, diffusers and transformers fill the tensor with random values."""
    shutil.copytree(model_folder, tmp_path / "m")
    path = next((tmp_path / "m" / component).glob("*.safetensors"))
    tensors = load_file(path)
    tensors.pop(sorted(tensors)[3])
    save_file(tensors, path, metadata={"format": "pt"})
    words = (f"{component} lacks 1 of its tensors", "save the whole pipeline again")
    check_all_commands(capfd, tmp_path / "m", lora_folder, *words)


@pytest.mark.parametrize("component", slow_but(["vae"], ["text_encoder", "vae"]))
def test_weights_that_are_not_finite(component, tmp_path, capfd, lora_folder):
    pipe = tiny_pipe()
    with torch.no_grad():
        list(getattr(pipe, component).parameters())[-1].fill_(torch.nan)
    pipe.save_pretrained(tmp_path / "m")
    check_all_commands(capfd, tmp_path / "m", lora_folder, "NaN", early=False)


def test_a_model_whose_images_are_black(tmp_path, capfd, lora_folder):
    pipe = tiny_pipe()
    with torch.no_grad():
        pipe.vae.decoder.conv_out.weight.zero_()
        pipe.vae.decoder.conv_out.bias.fill_(-5)
    pipe.save_pretrained(tmp_path / "m")
    before, options = content(tmp_path), ("--model", tmp_path / "m", "-n", 1, "--steps", 2)
    for command in (
        ("sample", "a cat", "--out", tmp_path / "x.png", *options),
        ("compare", lora_folder, "a cat", "--allow-base-mismatch", "--out", tmp_path / "x.html", *options),
    ):
        check_refused(call(capfd, *command), "1 of 1 images of the model without an erasure are black", early=False)
    options = (*options, "--erasure", lora_folder, "--allow-base-mismatch")
    output = call(capfd, "sample", "a cat", "--out", tmp_path / "x.png", *options)
    assert output.code == 0, output
    assert "1 of 1 images with the erasure are black: it destroys them" in output.err
    assert content(tmp_path).keys() - before.keys() == {"x.png"}


def narrow_text_encoder():
    pipe = tiny_pipe()
    pipe.text_encoder = tiny_text(tiny_tokenizer(), hidden_size=48)
    return pipe


def second_text_encoder(**sizes: int):
    """SDXL's pipeline with another second text encoder."""
    config = {"hidden_size": WIDTH_2, "num_hidden_layers": 3, "hidden_act": "gelu", "projection_dim": POOLED, **sizes}
    pipe = tiny_sdxl_pipe()
    pipe.text_encoder_2 = CLIPTextModelWithProjection(text_config(tiny_tokenizer("!", ("!",)), **config))
    return pipe


def larger_tokenizer():
    pipe = tiny_pipe()
    pipe.tokenizer = tiny_tokenizer("!", ("!",))
    return pipe


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (narrow_text_encoder, "unet reads states 32 wide, not text_encoder's 48"),
        (
            lambda: second_text_encoder(hidden_size=40),
            "unet reads states 56 wide, not text_encoder's 32 and text_encoder_2's 40",
        ),
        (lambda: second_text_encoder(projection_dim=28), "reads a pooled state 20 wide, not text_encoder_2's 28"),
        (larger_tokenizer, "tokenizer has 61 tokens, its text_encoder 60"),
    ],
    ids=["text_encoder", "text_encoder_2", "pooled", "tokenizer"],
)
def test_components_that_do_not_fit_each_other(build, words, tmp_path, capfd):
    build().save_pretrained(tmp_path / "m")
    output = call(capfd, "sample", "a cat", "--model", tmp_path / "m", "--out", tmp_path / "x.png")
    check_refused(output, words)


def test_components_that_do_not_fit_are_refused_by_every_command(tmp_path, capfd, lora_folder):
    narrow_text_encoder().save_pretrained(tmp_path / "m")
    words = "unet reads states 32 wide, not text_encoder's 48"
    check_all_commands(capfd, tmp_path / "m", lora_folder, words)


def test_a_unet_for_other_states_is_refused_in_memory():
    pipe = tiny_pipe()
    pipe.unet = tiny_unet(cross_attention_dim=24)
    with pytest.raises(EffaceError, match="reads states 24 wide, not text_encoder's 32"):
        load_model(pipe)


def test_mixed_precisions_in_memory_and_on_disk(tmp_path, capfd):
    pipe = tiny_pipe()
    pipe.unet.to(torch.float16)
    with pytest.raises(EffaceError, match=r"mixes precisions .*unet float16.*choose one with dtype=") as caught:
        load_model(pipe)
    assert "\n" not in str(caught.value)
    assert load_model(pipe, dtype="float32").unet.dtype == torch.float32, "the cure works"
    pipe = tiny_pipe()
    pipe.unet.to(torch.float16)
    pipe.save_pretrained(tmp_path / "m")
    options = ("-n", 1, "--steps", 1, "--model", tmp_path / "m", "--out", tmp_path / "x.png")
    assert call(capfd, "sample", "a cat", *options).code == 0, "files are loaded in one precision"


def test_a_base_that_the_erasure_was_not_made_for(tmp_path, capfd, lora_folder):
    tiny_pipe(1).save_pretrained(tmp_path / "other")
    tiny_pipe(unet={"cross_attention_dim": 48}, text={"hidden_size": 48}).save_pretrained(tmp_path / "wide")
    words = ("other is not the base of this erasure", "% from the one")
    check_all_commands(capfd, tmp_path / "other", lora_folder, *words, base_only=True)
    check_all_commands(capfd, tmp_path / "wide", lora_folder, "wide", "this erasure", base_only=True)
    transfer = ("transfer", lora_folder, "--to", tmp_path / "wide", "--out", tmp_path / "x")
    check_refused(call(capfd, *transfer, "--allow-base-mismatch"), "low-rank factors", "do not fit")
    assert not (tmp_path / "x").exists()


def test_a_lora_is_not_a_model(tmp_path, capfd):
    save_file({"lora_unet_x.lora_up.weight": torch.zeros(2, 1)}, tmp_path / "lora.safetensors")
    output = call(capfd, "sample", "a cat", "--model", tmp_path / "lora.safetensors", "--out", tmp_path / "x.png")
    check_refused(output, "is a LoRA", "give the model that it belongs to")


def run_out_of_memory(*_, **__):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def test_out_of_memory_while_generating_names_the_batch_size(tmp_path, model_folder, capfd, monkeypatch, pocket):
    tensors = {name: to_blob(p * 0.5) for name, p in pocket.parameter_group("cross_kv").parameters.items()}
    erasure_of(pocket, [Edit("unet", "replace", {n: n for n in tensors})], tensors).save(tmp_path / "e")
    before = content(tmp_path)
    monkeypatch.setattr(StableDiffusionModel, "trajectory", run_out_of_memory)
    words = ("out of memory", "lower batch_size, or choose a smaller dtype")
    sample = call(capfd, "sample", "a cat", "--out", tmp_path / "x.png", "--model", model_folder)
    check_refused(sample, *words, early=False)
    for command in ("evaluate", "attack"):
        options = ("--benchmark", "pocket-weapon", *MISMATCH, "--model", "pocket", "--limit", 2)
        check_refused(call(capfd, command, tmp_path / "e", *options), *words, early=False)
    monkeypatch.setattr("efface.execution.kinds.check_base_model", lambda *_: 0.1)
    output = call(capfd, "erase", "gun", "--out", tmp_path / "y", "--model", model_folder, *QUICK)
    check_refused(output, "out of memory: lower", "--set batch_size=1", "--dtype bfloat16", early=False)
    assert content(tmp_path) == before


def test_out_of_memory_while_loading_names_the_precision(tmp_path, model_folder, capfd, monkeypatch):
    monkeypatch.setattr(type(tiny_pipe()), "to", run_out_of_memory)
    output = call(capfd, "sample", "a cat", "--out", tmp_path / "x.png", "--model", model_folder)
    check_refused(output, "the model does not fit", "smaller dtype")
