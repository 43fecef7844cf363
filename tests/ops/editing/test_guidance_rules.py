"""Guidance rules while sampling, against formulas from the model's own predictions."""

from __future__ import annotations

from itertools import pairwise

import torch
from helpers.tiny import tiny_model

from efface.models.guidance_hooks import GuidedStep
from efface.models.protocol import Conditioning
from efface.ops.editing.guidance_rules import NegativePrompt, SafeLatentDiffusion
from efface.ops.targets import sld_guidance

G = torch.Generator().manual_seed(4)
C, U, N, M = torch.randn(4, 1, 4, 2, 2, generator=G)


def step(index=0, scale=3.0, extra=(N,), c=C, u=U):
    return GuidedStep(index, 10, 500, scale, c, u, tuple(extra))


def unedited(s):
    return s.unconditional + s.guidance_scale * (s.conditional - s.unconditional)


def test_without_edits_sampling_is_ddim(tiny):
    cond, empty = tiny.encode(["a gun"]), tiny.encode([""])
    points = list(tiny.trajectory(cond, num_inference_steps=4, guidance_scale=2.5, seeds=[3]))
    z = tiny.initial_noise([3])
    for point in points[:-1]:
        assert torch.equal(point.z, z)
        joint = tiny.predict(torch.cat([z, z]), point.t, Conditioning.cat([cond, empty])).value
        z = tiny.scheduler.step(joint[1:] + 2.5 * (joint[:1] - joint[1:]), point.t, z).prev_sample
    assert torch.equal(points[-1].z, z)
    assert points[-1].t == -1


def test_params_replace_the_denoisers_tensors(tiny):
    sites = tiny.parameter_group("cross_kv")
    params = sites.as_params({name: weight * 2 for name, weight in sites.parameters.items()})
    cond = tiny.encode(["a gun"])
    (*_, student) = tiny.trajectory(cond, num_inference_steps=2, guidance_scale=2.0, seeds=[3], params=params)
    with torch.no_grad():
        for weight in sites.parameters.values():
            weight *= 2
    (*_, edited) = tiny.trajectory(cond, num_inference_steps=2, guidance_scale=2.0, seeds=[3])
    assert torch.equal(student.z, edited.z)


def test_a_negative_prompt_replaces_the_empty_prompt():
    s = step()
    torch.testing.assert_close(NegativePrompt(["x"]).new_rule()(unedited(s), s), N + 3.0 * (C - N))
    s = step(extra=(N, M))
    mean = (N + M) / 2
    torch.testing.assert_close(NegativePrompt(["x", "y"]).new_rule()(unedited(s), s), mean + 3.0 * (C - mean))


def test_a_negative_prompt_in_a_trajectory(tiny):
    tiny.guidance_edits.append(NegativePrompt(["a cat"]))
    points = list(tiny.trajectory(tiny.encode(["a gun"]), num_inference_steps=3, guidance_scale=2.0, seeds=[3]))
    for now, after in pairwise(points):
        negative = tiny.predict(now.z, now.t, tiny.encode(["a cat"])).value
        assert torch.allclose(now.unconditional.value, tiny.predict(now.z, now.t, tiny.encode([""])).value, atol=1e-5)
        guided = negative + 2.0 * (now.conditional.value - negative)
        torch.testing.assert_close(tiny.scheduler.step(guided, now.t, now.z).prev_sample, after.z, rtol=1e-4, atol=1e-4)


def test_edits_can_be_combined(tiny):
    tiny.guidance_edits += [NegativePrompt(["a cat"]), NegativePrompt(["a dog", "a gun"])]
    points = list(tiny.trajectory(tiny.encode(["a gun", "b"]), num_inference_steps=2, guidance_scale=2.0, seeds=[3, 4]))
    now, after = points[:2]
    e = {
        prompt: tiny.predict(now.z, now.t, tiny.encode([prompt] * 2)).value
        for prompt in ("", "a cat", "a dog", "a gun")
    }
    guided = (
        e[""] + 2 * (now.conditional.value - e[""]) - (e["a cat"] - e[""]) - ((e["a dog"] + e["a gun"]) / 2 - e[""])
    )
    torch.testing.assert_close(tiny.scheduler.step(guided, now.t, now.z).prev_sample, after.z, rtol=1e-4, atol=1e-4)


def test_sld_by_hand_over_steps():
    rule = SafeLatentDiffusion(
        ["x"], guidance_scale=2.0, threshold=0.3, momentum=0.5, momentum_decay=0.7, warmup_steps=10
    ).new_rule()
    nu = torch.zeros_like(C)
    for index in range(5):
        s = step(index, c=C * (1 + 0.1 * index))
        gamma = sld_guidance(s.conditional, U, N, 2.0, 0.3) + 0.5 * nu
        nu = 0.7 * nu + 0.3 * gamma
        expected = U + 3.0 * (s.conditional - U - gamma) if index >= 2 else unedited(s)  # 10 of 50 steps are 2 of 10
        torch.testing.assert_close(rule(unedited(s), s), expected)


def test_every_trajectory_starts_without_momentum(tiny):
    tiny.guidance_edits.append(
        SafeLatentDiffusion(
            ["a cat"], guidance_scale=500.0, threshold=1.0, momentum=0.5, momentum_decay=0.5, warmup_steps=0
        )
    )
    cond = tiny.encode(["a gun"])
    first, second = (
        [p.z for p in tiny.trajectory(cond, num_inference_steps=4, guidance_scale=3.0, seeds=[1])] for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    tiny.guidance_edits.clear()
    (*_, base) = tiny.trajectory(cond, num_inference_steps=4, guidance_scale=3.0, seeds=[1])
    assert not torch.allclose(base.z, first[-1], atol=1e-3)


def test_images_change_with_the_edit():
    model = tiny_model()
    before = model.sample(["a gun"], seeds=[1], num_inference_steps=3)
    model.guidance_edits.append(NegativePrompt(["a gun"]))
    assert not torch.allclose(model.sample(["a gun"], seeds=[1], num_inference_steps=3), before, atol=1e-3)
    assert torch.allclose(
        model.sample(["a gun"], seeds=[1], num_inference_steps=3, guidance_scale=1.0),
        tiny_model().sample(["a gun"], seeds=[1], num_inference_steps=3, guidance_scale=1.0),
        atol=1e-4,
    )
