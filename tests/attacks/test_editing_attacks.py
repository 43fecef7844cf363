"""Editing attacks: noise maps and guidance of LEDITS++, shared self-attention of MasaCtrl."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.pipelines.ledits_pp.pipeline_leditspp_stable_diffusion import compute_noise_ddim
from helpers.tiny import tiny_model

from efface.attacks.ledits import Config as LeditsConfig
from efface.attacks.ledits import ledits
from efface.attacks.masactrl import Config as MasaCtrlConfig
from efface.attacks.masactrl import edited, masactrl
from efface.core.attack_set import AttackTask
from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.ops.adversarial.attack_context import AttackContext
from efface.ops.adversarial.edit_guidance import edit_guidance, top_pixels
from efface.ops.adversarial.noise_maps import SourcePrompt, mean_step, noise_maps
from efface.ops.adversarial.sampler_probe import Levels
from efface.ops.adversarial.shared_attention import self_attention_layers, shared_attention
from efface.ops.latent_inversion import invert

STEPS = 5
SOURCE = SourcePrompt(["a cat", "my dog"], [3, 4], 1.5)
TASKS = [AttackTask(f"a {letter} gun", f"a {letter} {{}}", i) for i, letter in enumerate("abc")]


def latents(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def run() -> AttackContext:
    return AttackContext(seed=3, device=torch.device("cpu"))


def test_the_noise_maps_are_those_of_diffusers() -> None:
    scheduler = tiny_model().scheduler
    scheduler.set_timesteps(10)
    t, before, after, epsilon = 501, latents(1), latents(2), latents(3)
    now, then = (float(scheduler.alphas_cumprod[level]) for level in (t, t - 100))
    levels = Levels(t, now**0.5, (1 - now) ** 0.5, then**0.5, (1 - then) ** 0.5, 4)
    expected, _ = compute_noise_ddim(scheduler, after, before, t, epsilon, 1.0)
    deviation = scheduler._get_variance(t, t - 100) ** 0.5
    assert torch.allclose((after - mean_step(before, epsilon, levels)) / deviation, expected, atol=1e-4)


def test_without_an_edit_the_noise_maps_give_the_image_back() -> None:
    model, x0 = tiny_model(), latents()
    maps = noise_maps(model, x0, SOURCE, STEPS, torch.Generator().manual_seed(0))
    whole = maps.sample(model, SOURCE, 0)
    assert torch.allclose(whole, maps.sample(model, SOURCE, 2), atol=1e-4)
    assert float((whole - x0).abs().mean()) < 0.1
    with edit_guidance(model, "a dog", 0.0, 0.9):
        assert torch.allclose(whole, maps.sample(model, SOURCE, 0), atol=1e-4)
    with edit_guidance(model, "a dog", 20.0, 0.5):
        assert not torch.allclose(whole, maps.sample(model, SOURCE, 0), atol=1e-2)
    assert not model.latent_edits
    assert not model.guidance_edits


def test_an_edit_changes_only_pixels_of_both_masks() -> None:
    model, z = tiny_model(), latents()
    with edit_guidance(model, "a dog", 10.0, 0.75):
        plain = model.predict(z, 500, model.encode(["a cat", "my dog"])).value
        joint = [*["a cat", "my dog"], "", "", "a dog", "a dog"]
        model.predict(torch.cat([z] * 3), 500, model.encode(joint))
        rule = model.guidance_edits[0].new_rule()
        step: Any = type("Step", (), {"extra": (latents(5),), "unconditional": latents(6)})
        changed = (rule(plain, step) != plain).any(1)
    largest = top_pixels((latents(5) - latents(6)).abs().sum(1), 0.75).bool()
    assert changed.any()
    assert changed.flatten(1).sum(1).max() <= 16
    assert not (changed & ~largest).any()


@pytest.mark.slow
def test_the_edit_of_the_empty_prompt_is_the_image_itself() -> None:
    model = tiny_model()
    empty = model.unconditional(2)
    x0 = list(model.trajectory(empty, num_inference_steps=STEPS, guidance_scale=1.0, seeds=[3, 4]))[-1].z
    noise = invert(model, x0, empty, STEPS, 30)
    config = MasaCtrlConfig(first_step=0, first_layer=0, num_inference_steps=STEPS)
    assert torch.allclose(edited(model, noise, ["", ""], [1, 2], config), x0, atol=1e-3)
    assert not model.latent_edits


def test_images_share_keys_and_values_from_the_first_step_on() -> None:
    model, noise, prompts = tiny_model(), latents(), ["a dog", "a gun"]

    def sample(first_step: int) -> torch.Tensor:
        config = MasaCtrlConfig(first_step=first_step, first_layer=1, num_inference_steps=STEPS)
        return edited(model, noise, prompts, [1, 2], config)

    alone = sample(STEPS)
    assert not torch.allclose(alone, sample(0), atol=1e-4)
    assert torch.equal(alone, sample(STEPS))
    keys: list[torch.Tensor] = []
    layer: Any = self_attention_layers(model.components["unet"])[1]
    with shared_attention(model, 2, 0, 1):
        layer.to_k.register_forward_hook(lambda _m, _i, output: keys.append(output))
        model.latent_edits[-1].change_latent(noise, 0, STEPS, 1, [1, 2])
        model.predict(torch.cat([noise, latents(1)]), 500, model.encode(["a", "a dog", "a", "a dog"]))
    assert torch.equal(keys[0][0], keys[0][1])
    assert not torch.equal(keys[0][0], keys[0][2])


@pytest.mark.parametrize(
    ("attack", "config", "message"),
    [
        (ledits, LeditsConfig(edits=()), "has no edits: give --set edits="),
        (ledits, LeditsConfig(skip=1.0), "skip must be from 0 to below 1, not 0.9 and 1.0"),
        (ledits, LeditsConfig(edits=(" ".join(("nude", "child")),)), "^refused: an edit"),
        (masactrl, MasaCtrlConfig(edits=("a hat",)), "the edit 'a hat' must hold {} once"),
        (masactrl, MasaCtrlConfig(iterations=0), "at least 1 iteration, not 0"),
        (masactrl, MasaCtrlConfig(num_inference_steps=2), "first_layer must be 0 to 3, not 10: tiny has 4"),
    ],
)
def test_bad_settings(attack: Any, config: Any, message: str) -> None:
    with pytest.raises(EffaceError, match=message):
        attack(tiny_model(), Concept("gun"), TASKS, config, run())


def test_edits_are_given_in_turn() -> None:
    config = LeditsConfig(edits=("a dog", "a cat"), num_inference_steps=2)
    rows = ledits(tiny_model(), Concept("gun"), TASKS, config, run()).prompts
    assert [row.adversarial_prompt for row in rows] == ["a a gun, a dog", "a b gun, a cat", "a c gun, a dog"]
    assert [row.seed for row in rows] == [0, 1, 2]
    assert all(row.start is not None and row.start.step == 2 for row in rows)
