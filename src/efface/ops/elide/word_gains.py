"""Denoising errors of a model's images under different words, and their gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning
from efface.ops.training.latents import Latents
from efface.ops.training.progress import Progress, Silent

TIMESTEP_RANGE = (0.15, 0.75)
"""Range of timesteps, as fractions of all, at which the content of an image is decided."""
BATCH_SIZE = 64
"""Noised images of one pass of the denoiser."""


def word_gains(
    model: EditableModel,
    images: Latents,
    name_prompt: str,
    prompts: Sequence[str],
    num_timesteps: int,
    generator: torch.Generator,
    progress: Progress | None,
) -> Tensor:
    """Computes max(0, L(x, c) - L(x, w)) for each prompt w and image x, ``(W, N)``.

    Args:
        model: the original model.
        images: clean latents of N images.
        name_prompt: the prompt with the concept's name c.
        prompts: W prompts.
        num_timesteps: timesteps of each image.
        generator: of the noise, on the CPU.
        progress: receives the number of scored prompts.
    """
    latents = images.x0.repeat_interleave(num_timesteps, 0)
    t = _timesteps(model, num_timesteps).repeat(len(images.x0)).to(latents.device)
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    z = model.add_noise(latents, noise, t)

    progress, all_errors = progress or Silent(), []
    progress.start("scoring domain words", len(prompts) + 1, 0)
    try:
        for prompt in [name_prompt, *prompts]:
            errors = _denoising_errors(model, z, t, noise, model.encode([prompt]))
            all_errors.append(errors.view(-1, num_timesteps).mean(1))
            progress.update(len(all_errors), {})
    finally:
        progress.stop()
    return (all_errors[0] - torch.stack(all_errors[1:])).clamp(min=0)


def error_gradients(
    model: EditableModel, images: Latents, cond: Conditioning, num_timesteps: int, generator: torch.Generator
) -> Tensor:
    """Computes the gradient of each image's denoising error with respect to one prompt's states, ``(N, L, D)``."""
    gradients = []
    for latent in images.x0:
        x = latent[None].expand(num_timesteps, -1, -1, -1)
        t = _timesteps(model, num_timesteps).to(latent.device)
        noise = torch.randn(x.shape, generator=generator).to(x)
        with torch.enable_grad():
            states = cond.states.detach().requires_grad_(True)
            expanded = _expand(Conditioning(states, cond.pooled), num_timesteps)
            error = (model.predict(model.add_noise(x, noise, t), t, expanded).epsilon - noise).square().mean()
            gradients.append(torch.autograd.grad(error, states)[0][0])
    return torch.stack(gradients)


def _denoising_errors(model: EditableModel, z: Tensor, t: Tensor, noise: Tensor, cond: Conditioning) -> Tensor:
    """Computes the squared error of the predicted noise of each noised image, in batches of `BATCH_SIZE`."""
    errors = []
    for start in range(0, len(z), BATCH_SIZE):
        rows = slice(start, start + BATCH_SIZE)
        predicted = model.predict(z[rows], t[rows], _expand(cond, len(z[rows]))).epsilon
        errors.append((predicted - noise[rows]).square().mean((1, 2, 3)))
    return torch.cat(errors)


def _timesteps(model: EditableModel, count: int) -> Tensor:
    """Returns ``count`` evenly spaced timesteps within `TIMESTEP_RANGE`."""
    low, high = TIMESTEP_RANGE
    return (torch.linspace(low, high, count + 2)[1:-1] * model.num_train_timesteps).long()


def _expand(cond: Conditioning, count: int) -> Conditioning:
    """Repeats the conditioning of one prompt ``count`` times, with guidance scale 1, which is none."""
    return Conditioning(cond.states.expand(count, -1, -1), cond.pooled.expand(count, -1)).with_guidance(1.0)
