"""``load_model``: folders, models in memory, and errors of one line."""

from __future__ import annotations

import pytest
import torch
from helpers.original import write_original
from helpers.tiny import PIPES, state_bytes, tiny_of, tiny_pipe

from efface.core.errors import EffaceError
from efface.models.fingerprint import fingerprint
from efface.models.loading import load_model
from efface.models.model_ref import ModelRef


@pytest.mark.parametrize("family", PIPES)
def test_a_saved_folder_loads_with_the_same_weights(family, folders):
    model, original = load_model(folders[family]), tiny_of(family)
    assert (model.name, model.family) == (family, family)
    assert model.unet.dtype == torch.float32
    assert state_bytes(model) == state_bytes(original)
    assert torch.equal(
        model.sample(["a gun"], seeds=[1], num_inference_steps=2),
        original.sample(["a gun"], seeds=[1], num_inference_steps=2),
    )
    assert load_model(ModelRef(folders[family], dtype="bf16")).unet.dtype == torch.bfloat16


def test_a_reference_without_a_model_selects_the_default(folders):
    assert load_model(ModelRef(None), default=folders["sd1"]).name == "sd1"


def test_a_pipeline_in_memory_is_used_in_place():
    pipe = tiny_pipe()
    model = load_model(pipe)
    assert model.unet is pipe.unet
    assert model.name == "pipeline"
    assert load_model(model) is model


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "flaot16"}, "did you mean 'float16'"),
        ({"revision": "main"}, "a revision belongs to a hub id"),
        ({"config": "sd1"}, r"a config belongs to a \.safetensors checkpoint"),
        ({"device": "gpu"}, "no device 'gpu'"),
        ({"device": "cuda:99"}, "no device cuda:99 here"),
    ],
)
def test_options_that_do_not_fit_the_model_are_refused(options, message):
    with pytest.raises(EffaceError, match=message):
        load_model("pocket", **options)


def test_a_folder_and_a_checkpoint_with_the_same_weights_have_the_same_fingerprint(folders, tmp_path):
    path = write_original(tiny_of("sd1").pipe, tmp_path / "one.safetensors")
    from_checkpoint, from_folder = load_model(path, config=folders["sd1"]), load_model(folders["sd1"])
    assert fingerprint(from_checkpoint.text_encoder) == fingerprint(from_folder.text_encoder)
