"""Parameters by role: counts on the tiny model, exact layers, and errors."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import WIDTH

from efface.core.errors import EffaceError, UnknownNameError
from efface.models.parameter_groups import select_parameters
from efface.models.parameter_roles import ROLES

TRANSFORMERS, LAYERS = 4, 2  # attention blocks of the tiny UNet, layers of its text encoder


@pytest.mark.parametrize(
    ("role", "count"),
    [
        ("cross_kv", 2 * TRANSFORMERS),
        ("reads_text", 2 * TRANSFORMERS),
        ("cross_q", TRANSFORMERS),
        ("cross_qk", 2 * TRANSFORMERS),
        ("cross_out", 2 * TRANSFORMERS),
        ("cross_all", 5 * TRANSFORMERS),
        ("self_attn", 5 * TRANSFORMERS),
        ("attn_all", 10 * TRANSFORMERS),
        ("text_mlp", 4 * LAYERS),
        ("text_attn", 8 * LAYERS),
        ("text_layers", 16 * LAYERS),
        ("text_all", 16 * LAYERS + 2),
        ("text_mlp:last", 4),
        ("text_mlp:0-1", 8),
        ("text_mlp + text_attn:1", 16),
        ("text_attn:0,1+text_attn", 16),
        ("token_embedding", 1),
    ],
)
def test_each_role_selects_its_parameters(tiny, role, count):
    assert len(tiny.parameter_group(role).parameters) == count


def test_roles_of_the_unet_partition_it(tiny):
    names = {
        role: set(tiny.parameter_group(role).parameters)
        for role in ("cross_all", "non_cross", "unet_linear", "unet_all")
    }
    assert names["cross_all"] | names["non_cross"] == names["unet_linear"]
    assert not names["cross_all"] & names["non_cross"]
    assert len(names["unet_all"]) == len(list(tiny.unet.parameters()))
    norms = names["unet_all"] - names["unet_linear"]
    assert norms
    assert all("norm" in name for name in norms)


def test_every_role_selects_the_models_own_parameters(tiny):
    for role in ROLES:
        group = tiny.parameter_group(role)
        parameters = dict(tiny.components[group.component].named_parameters())
        assert group.parameters
        assert all(parameters[group.paths[name]] is parameter for name, parameter in group.parameters.items())
        assert group.as_params(dict(group.parameters)).keys() <= parameters.keys()
    assert all(p.shape[1] == WIDTH for p in tiny.parameter_group("cross_kv").parameters.values())
    assert "encoder.layers.1.mlp.fc1.weight" in tiny.parameter_group("text_mlp:1").parameters


def test_layer_1_is_not_layer_10():
    module = torch.nn.ModuleDict(
        {"layers": torch.nn.ModuleList(torch.nn.ModuleDict({"mlp": torch.nn.Linear(1, 1)}) for _ in range(12))},
    )
    assert set(select_parameters({"text_encoder": module}, "text_mlp:1").parameters) == {
        "layers.1.mlp.weight",
        "layers.1.mlp.bias",
    }
    assert len(select_parameters({"text_encoder": module}, "text_mlp:9-last").parameters) == 6


def test_a_role_that_selects_nothing_is_refused(tiny):
    with pytest.raises(EffaceError, match="selects nothing"):
        select_parameters({"unet": torch.nn.Linear(1, 1)}, "cross_kv")
    with pytest.raises(EffaceError, match="layers 0 to 1"):
        tiny.parameter_group("text_mlp:0,2")


@pytest.mark.parametrize(
    ("role", "error", "match"),
    [
        ("cross_kw", UnknownNameError, "did you mean 'cross_"),
        ("", UnknownNameError, "unknown role"),
        ("cross_kv:1", EffaceError, "takes no layers"),
        ("cross_kv+text_mlp", EffaceError, "joins text encoder and denoiser"),
        ("text_mlp:one", EffaceError, "cannot be read"),
        ("text_mlp:1-0", EffaceError, "do not all exist"),
    ],
)
def test_wrong_roles_are_refused(tiny, role, error, match):
    with pytest.raises(error, match=match):
        tiny.parameter_group(role)
