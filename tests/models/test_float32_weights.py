"""Float32 weights of a model in half precision, read again from its files."""

from __future__ import annotations

import pytest
import torch
from helpers.original import write_original
from helpers.tiny import PIPES, tiny_of, tiny_pipe

from efface.models.float32_weights import float32_group, float32_text_params
from efface.models.loading import load_model
from efface.models.stable_diffusion import StableDiffusionModel

ROLES = ("cross_kv", "text_mlp")
PROMPTS = ["a gun", "a cat and a dog"]


def check_equal(group, original):
    assert list(group.parameters) == list(original.parameters)
    assert group.paths == original.paths
    for name, parameter in original.parameters.items():
        assert torch.equal(group.parameters[name], parameter), name


@pytest.mark.parametrize("kind", ["folder", "file"])
@pytest.mark.parametrize("family", PIPES)
def test_weights_are_those_of_the_files(family, kind, folders, tmp_path):
    original, ref, options = tiny_of(family), folders[family], {}
    if kind == "file":
        ref = write_original(original.pipe, tmp_path / "one.safetensors")
        options = {"config": folders[family]}
    half = load_model(ref, dtype="bf16", **options)
    for role in ROLES:
        check_equal(float32_group(half, role), original.parameter_group(role))
        assert not torch.equal(
            next(iter(half.parameter_group(role).parameters.values())).float(),
            next(iter(original.parameter_group(role).parameters.values())),
        )
    states = half.encode(PROMPTS, params=float32_text_params(half)).states
    assert states.dtype == torch.float32
    torch.testing.assert_close(states, original.encode(PROMPTS).states)
    assert float32_text_params(original) == {}


def test_weights_in_memory_that_were_changed_are_not_replaced(folders):
    half = load_model(folders["sd1"], dtype="bf16")
    name, parameter = next(iter(half.parameter_group("cross_kv").parameters.items()))
    with torch.no_grad():
        parameter.mul_(2)
    assert torch.equal(float32_group(half, "cross_kv").parameters[name], parameter.float())


def test_a_pipeline_in_memory_has_its_own_weights_only():
    half = StableDiffusionModel(tiny_pipe().to(torch.bfloat16), "memory")
    own = half.parameter_group("cross_kv")
    for name, parameter in float32_group(half, "cross_kv").parameters.items():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, own.parameters[name].float())
    assert half.encode(PROMPTS, params=float32_text_params(half)).states.dtype == torch.float32
