"""Models that are incomplete, broken or too large: one line with the cure, exit code 2, and no file written."""

from __future__ import annotations

import shutil

import pytest
import torch
from helpers.cli import MISMATCH, QUICK, call, check_all_commands, check_refused, content
from helpers.fast import slow_but
from helpers.tiny import erasure_of, tiny_pipe
from safetensors.torch import load_file, save_file

from efface.core.edits import Edit
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.tensor_conversion import to_blob


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
