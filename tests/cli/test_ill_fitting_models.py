"""Models whose parts fit neither each other nor the erasure: one line with the cure, and no file written."""

from __future__ import annotations

import pytest
import torch
from helpers.cli import call, check_all_commands, check_refused
from helpers.tiny import POOLED, WIDTH_2, text_config, tiny_pipe, tiny_sdxl_pipe, tiny_text, tiny_tokenizer, tiny_unet
from safetensors.torch import save_file
from transformers import CLIPTextModelWithProjection

from efface.core.errors import EffaceError
from efface.models.loading import load_model


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
