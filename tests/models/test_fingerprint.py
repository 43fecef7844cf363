"""Fingerprints: equal after a change of precision or library version, different after an edit, with true distances."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time

import pytest
import torch
from helpers.tiny import tiny_model

from efface.core.errors import CorruptArtifactError, EffaceError
from efface.models.fingerprint import distance, fingerprint, matches


@torch.no_grad()
def edited(module, name, relative, seed=0):
    """A copy with one tensor moved in a random direction by this share of its norm."""
    other = copy.deepcopy(module)
    weight = dict(other.named_parameters())[name]
    step = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
    weight += step * (relative * weight.norm() / step.norm())
    return other


@pytest.mark.parametrize("component", ["text_encoder", "unet", "vae"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fingerprints_match_after_a_change_of_precision(component, seed):
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


def test_an_edit_of_any_tensor_is_detected(tiny):
    base = fingerprint(tiny.unet)
    for i, (name, weight) in enumerate(tiny.unet.named_parameters()):
        if i % 4 == 0 and weight.norm() > 0:
            other = fingerprint(edited(tiny.unet, name, 1e-2, i))
            assert not matches(base, other), name
            assert distance(other, base) > 0


@pytest.mark.slow
def test_an_edit_is_detected_in_half_precision(tiny):
    base = fingerprint(copy.deepcopy(tiny.unet).half())
    names = [name for name, weight in tiny.unet.named_parameters() if weight.norm() > 0][1::4]
    missed = [name for i, name in enumerate(names) if matches(base, fingerprint(edited(tiny.unet, name, 1e-2, i)))]
    assert missed == []


@torch.no_grad()
def test_an_edit_of_a_tensor_of_zeros_is_detected(tiny):
    base = fingerprint(tiny.text_encoder)
    tiny.text_encoder.final_layer_norm.bias[3] = 0.01
    assert not matches(base, fingerprint(tiny.text_encoder))


def test_distance_is_relative_l2_and_grows(tiny):
    base = fingerprint(tiny.unet)
    ratios = []
    for relative in (0.01, 0.1, 1.0):
        other = copy.deepcopy(tiny.unet)
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for weight in other.parameters():
                step = torch.randn(weight.shape, generator=generator)
                weight += step * relative * weight.norm() / step.norm()
        ratios.append(distance(fingerprint(other), base) / relative)
    assert all(0.7 < ratio < 1.4 for ratio in ratios), ratios
    assert distance(base, base) == 0


def test_another_architecture_is_infinitely_far(tiny):
    a, b = fingerprint(tiny.unet), fingerprint(tiny.vae)
    assert not matches(a, b)
    assert distance(a, b) == math.inf
    heads = copy.deepcopy(tiny.text_encoder)
    heads.config.num_attention_heads = 4
    assert not matches(fingerprint(tiny.text_encoder), fingerprint(heads))


def test_fingerprints_are_small_json_and_reproducible(tiny):
    for module in tiny.components.values():
        summary = fingerprint(module)
        assert len(json.dumps(summary)) < 300 + 25 * summary["tensors"]
        assert json.loads(json.dumps(summary)) == summary == fingerprint(copy.deepcopy(module))


def test_the_sketch_does_not_depend_on_platform_or_version():
    layer = torch.nn.Linear(700, 30)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.copy_(torch.arange(weight.numel()).reshape(weight.shape) % 7 - 3)
    summary = fingerprint(layer)
    assert summary["precision"] == "bfloat16"
    assert hashlib.sha256(summary["sketch"].encode()).hexdigest()[:16] == "037be8e6a9616334"


def test_a_broken_model_and_a_broken_fingerprint_raise(tiny):
    good = fingerprint(tiny.unet)
    for bad in ({**good, "sketch": "!"}, {**good, "sketch": good["sketch"][:40]}, {**good, "tensors": "x"}):
        with pytest.raises(CorruptArtifactError):
            matches(bad, good)
    with torch.no_grad():
        tiny.unet.conv_in.weight[0] = math.nan
    with pytest.raises(EffaceError, match=r"conv_in\.weight"):
        fingerprint(tiny.unet)


def test_a_fingerprint_of_four_million_values_takes_under_two_seconds():
    layer = torch.nn.Linear(2000, 2000)
    start = time.process_time()
    fingerprint(layer)
    assert time.process_time() - start < 2
