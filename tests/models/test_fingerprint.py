"""Fingerprints: the same through a change of precision and of library version, another after an edit, distances that mean something."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time

import pytest
import torch
from helpers.tiny import tiny_model, tiny_text, tiny_tokenizer

from efface.core.errors import CorruptArtifactError, EffaceError
from efface.models.fingerprint import distance, fingerprint, matches
from efface.models.tensor_names import canonical_name, canonical_paths, resolve


@torch.no_grad()
def edited(module, name, relative, seed=0):
    """A copy with one tensor moved by this much of its norm, in a random direction."""
    other = copy.deepcopy(module)
    weight = dict(other.named_parameters())[name]
    step = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
    weight += step * (relative * weight.norm() / step.norm())
    return other


@pytest.mark.parametrize("component", ["text_encoder", "unet", "vae"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_change_of_precision_matches(component, seed):
    base = tiny_model(seed).components[component]
    prints = {
        dtype: fingerprint(copy.deepcopy(base).to(dtype)) for dtype in (torch.float32, torch.float16, torch.bfloat16)
    }
    assert [item["precision"] for item in prints.values()] == ["full", "half", "bfloat16"]
    for a in prints.values():
        for b in prints.values():
            assert matches(a, b)
            assert distance(a, b) < 3e-3
    raised = copy.deepcopy(base).half().float()
    assert fingerprint(raised) == prints[torch.float16]
    assert matches(fingerprint(copy.deepcopy(base).half().bfloat16()), prints[torch.float32])


def test_every_single_edit_is_found(tiny):
    base = fingerprint(tiny.unet)
    for i, (name, weight) in enumerate(tiny.unet.named_parameters()):
        if i % 4 == 0 and weight.norm() > 0:
            other = fingerprint(edited(tiny.unet, name, 1e-2, i))
            assert not matches(base, other), name
            assert distance(other, base) > 0


def test_an_edit_is_found_in_half_precision_too(tiny):
    base = fingerprint(copy.deepcopy(tiny.unet).half())
    names = [name for name, weight in tiny.unet.named_parameters() if weight.norm() > 0][1::4]
    missed = [name for i, name in enumerate(names) if matches(base, fingerprint(edited(tiny.unet, name, 1e-2, i)))]
    assert missed == []


@torch.no_grad()
def test_an_edit_of_zeros_is_found(tiny):
    base = fingerprint(tiny.text_encoder)
    tiny.text_encoder.final_layer_norm.bias[3] = 0.01
    assert not matches(base, fingerprint(tiny.text_encoder))


def test_distance_is_relative_l2_and_grows(tiny):
    base = fingerprint(tiny.unet)
    found = []
    for relative in (0.01, 0.1, 1.0):
        other = copy.deepcopy(tiny.unet)
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for weight in other.parameters():
                step = torch.randn(weight.shape, generator=generator)
                weight += step * relative * weight.norm() / step.norm()
        found.append(distance(fingerprint(other), base) / relative)
    assert all(0.7 < ratio < 1.4 for ratio in found), found
    assert distance(base, base) == 0


def test_another_architecture_is_infinitely_far(tiny):
    a, b = fingerprint(tiny.unet), fingerprint(tiny.vae)
    assert not matches(a, b)
    assert distance(a, b) == math.inf
    heads = copy.deepcopy(tiny.text_encoder)
    heads.config.num_attention_heads = 4
    assert not matches(fingerprint(tiny.text_encoder), fingerprint(heads))


def test_it_is_small_plain_json_and_the_same_every_time(tiny):
    for module in tiny.components.values():
        made = fingerprint(module)
        assert len(json.dumps(made)) < 300 + 25 * made["tensors"]
        assert json.loads(json.dumps(made)) == made == fingerprint(copy.deepcopy(module))


def test_the_sketch_does_not_depend_on_platform_or_version():
    layer = torch.nn.Linear(700, 30)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.copy_(torch.arange(weight.numel()).reshape(weight.shape) % 7 - 3)
    made = fingerprint(layer)
    assert made["precision"] == "bfloat16"
    assert hashlib.sha256(made["sketch"].encode()).hexdigest()[:16] == "037be8e6a9616334"


def test_a_broken_model_and_a_broken_fingerprint_say_so(tiny):
    good = fingerprint(tiny.unet)
    for bad in ({**good, "sketch": "!"}, {**good, "sketch": good["sketch"][:40]}, {**good, "tensors": "x"}):
        with pytest.raises(CorruptArtifactError):
            matches(bad, good)
    with torch.no_grad():
        tiny.unet.conv_in.weight[0] = math.nan
    with pytest.raises(EffaceError, match=r"conv_in\.weight"):
        fingerprint(tiny.unet)


def test_speed():
    layer = torch.nn.Linear(2000, 2000)
    began = time.process_time()
    fingerprint(layer)
    assert time.process_time() - began < 2


def test_names_do_not_depend_on_version_or_wrapper():
    for own in (
        "text_model.encoder.layers.1.mlp.fc1.weight",
        "module.text_encoder.text_model.encoder.layers.1.mlp.fc1.weight",
    ):
        assert canonical_name(own) == "encoder.layers.1.mlp.fc1.weight"
    assert canonical_name("_orig_mod.down.0._orig_mod.to_k.base_layer.weight") == "down.0.to_k.weight"
    assert canonical_name("unet") == "unet"

    class Old(torch.nn.Module):
        def __init__(self, tower):
            super().__init__()
            self.text_model, self.config = tower, tower.config

    text = tiny_text(tiny_tokenizer())
    assert fingerprint(Old(text)) == fingerprint(text)
    assert list(canonical_paths(Old(text))) == list(canonical_paths(text))


def test_resolve():
    known = ["encoder.layers.1.mlp.fc1.weight", "encoder.layers.10.mlp.fc1.weight", "final_layer_norm.weight"]
    assert resolve("text_model.encoder.layers.1.mlp.fc1.weight", known) == known[0]
    assert resolve("wrapped.deep.final_layer_norm.weight", known) == known[2]
    assert resolve("layers.10.mlp.fc1.weight", known) == known[1]
    with pytest.raises(EffaceError, match="may be any of"):
        resolve("mlp.fc1.weight", known)
    with pytest.raises(EffaceError, match=r"nearest is 'final_layer_norm.weight'"):
        resolve("final_layer_norm.bias", known)
    with pytest.raises(EffaceError, match="same canonical name"):
        canonical_paths(torch.nn.ModuleDict({"model": torch.nn.Linear(1, 1), "module": torch.nn.Linear(1, 1)}))
