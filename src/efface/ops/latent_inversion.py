"""Inversion of samplers: the noise from which DDIM (Song et al. 2021, arXiv 2010.02502) or Euler generates a latent."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from efface.models.editable import EditableModel
from efface.models.flow_sampling import FlowSampler
from efface.models.protocol import Conditioning
from efface.models.sampling import DiffusionSampler
from efface.models.scheduler import inference_timesteps


@torch.no_grad()
def invert(model: EditableModel, x0: Tensor, cond: Conditioning, num_inference_steps: int, iterations: int) -> Tensor:
    """Runs DDIM backwards without guidance, from clean latents to noise.

        z_t = alpha_t (z_s - sigma_s e) / alpha_s + sigma_t e,   e = e(z_t, t, c)

    for each step from the lower level s to t. e depends on z_t itself, which is found by iterating from z_s. For flow
    models, z_t = z_s + (sigma_t - sigma_s) v(z_t, t, c) inverts Euler's step.

    Args:
        model: a diffusion model.
        x0: clean latents, ``(B, C, h, w)``.
        cond: conditioning of B prompts.
        num_inference_steps: number of steps of the sampler that shall generate the latents again.
        iterations: number of predictions for each step; 1 is the usual inversion, more are more exact.

    Returns:
        Noise ``(B, C, h, w)``.
    """
    if isinstance(model, FlowSampler):
        return _invert_flow(model, x0, cond, num_inference_steps, iterations)
    scheduler = cast(DiffusionSampler, model).scheduler
    z = x0
    alpha_squared = torch.as_tensor(scheduler.final_alpha_cumprod).to(x0)
    for t in reversed(inference_timesteps(scheduler, num_inference_steps)):
        previous, previous_alpha, previous_sigma = z, alpha_squared.sqrt(), (1 - alpha_squared).sqrt()
        for _ in range(iterations):
            prediction = model.predict(z, t, cond)
            clean = (previous - previous_sigma * prediction.epsilon) / previous_alpha
            z = prediction.alpha * clean + prediction.sigma * prediction.epsilon
        alpha_squared = scheduler.alphas_cumprod[t].to(x0)
    return z


def _invert_flow(model: FlowSampler, x0: Tensor, cond: Conditioning, num_steps: int, iterations: int) -> Tensor:
    """Runs Euler's sampler backwards without guidance by pairs, from clean latents to noise."""
    scheduler, z = model.schedule(num_steps), x0
    for index in reversed(range(num_steps)):
        previous, rise = z, scheduler.sigmas[index] - scheduler.sigmas[index + 1]
        for _ in range(iterations):
            z = previous + rise.to(z) * model.predict(z, scheduler.timesteps[index], cond).value
    return z
