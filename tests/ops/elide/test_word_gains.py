"""Denoising errors of images under different words."""

from __future__ import annotations

import torch
from helpers.tiny import tiny_model

from efface.ops.elide.word_gains import error_gradients, word_gains
from efface.ops.training.latents import Latents


def test_gain_is_the_decrease_of_the_denoising_error() -> None:
    model = tiny_model()
    images = Latents(model, torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.zeros(2))
    prompts = ["a cat", "a gun", "my dog"]
    gains = word_gains(model, images, "a gun", prompts, 1, torch.Generator().manual_seed(0), None)
    noise = torch.randn(images.x0.shape, generator=torch.Generator().manual_seed(0))
    t = torch.full((2,), int(0.45 * model.num_train_timesteps))

    def errors(prompt: str) -> torch.Tensor:
        with torch.no_grad():
            predicted = model.predict(model.add_noise(images.x0, noise, t), t, model.encode([prompt] * 2)).epsilon
        return (predicted - noise).square().mean((1, 2, 3))

    expected = torch.stack([(errors("a gun") - errors(prompt)).clamp(min=0) for prompt in prompts])
    torch.testing.assert_close(gains.detach(), expected, atol=1e-5, rtol=1e-4)
    assert gains[1].abs().max() < 1e-6, "no gain over the same prompt"


def test_gradients_point_to_a_larger_error() -> None:
    model = tiny_model()
    images = Latents(model, torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.zeros(2))
    cond = model.encode(["a gun"])
    gradients = error_gradients(model, images, cond, 3, torch.Generator().manual_seed(0))
    assert gradients.shape == (2, *cond.states.shape[1:])
    assert bool((gradients.flatten(1).norm(dim=1) > 0).all())
    assert not torch.allclose(gradients[0], gradients[1])
