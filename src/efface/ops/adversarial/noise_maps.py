"""DDPM inversion to noise maps (Huberman-Spiegelglas et al., CVPR 2024, arXiv 2304.06140), as LEDITS++ inverts.

An image x0 is noised independently at every level, and the maps hold what DDPM's steps must add to lead along them:

    z_t = a_t x0 + s_t n_t              n_t independent
    d_t = z_{t-1} - mu(z_t, e(z_t))     mu: mean of DDPM's step

Sampling with mu + d_t from any z_t then leads back to the image, and an edited prediction changes only what it edits.
d_t is the noise map times the standard deviation of its step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from efface.models.editable import EditableModel
from efface.models.sampling import DiffusionSampler
from efface.models.scheduler import inference_timesteps

from .sampler_probe import Levels, StartAt, noisy_step, sample_latents


@dataclass(frozen=True)
class SourcePrompt:
    """The prompts, seeds and guidance with which images are inverted and sampled again.

    Attributes:
        prompts: B prompts.
        seeds: B seeds.
        guidance_scale: classifier-free guidance scale.
    """

    prompts: Sequence[str]
    seeds: Sequence[int]
    guidance_scale: float


@dataclass(frozen=True)
class NoiseMaps:
    """The inversion of B images.

    Attributes:
        noised: z_t at every step of the sampler, ``(steps, B, C, h, w)``.
        differences: d_t of every step but the last, ``(steps - 1, B, C, h, w)``.
    """

    noised: Tensor
    differences: Tensor

    def sample(self, model: EditableModel, source: SourcePrompt, first_step: int) -> Tensor:
        """Samples from the noised images, with whatever edits the model's predictions; clean ``(B, C, h, w)``.

        Args:
            model: the model.
            source: prompts, seeds and guidance of the inversion.
            first_step: number of noisiest steps to skip.
        """

        def move(z: Tensor, epsilon: Tensor, levels: Levels) -> Tensor:
            return mean_step(z, epsilon, levels) + self.differences[levels.index].to(z)

        steps, start = len(self.noised), StartAt(self.noised[first_step], first_step)
        return sample_latents(model, source.prompts, source.seeds, steps, source.guidance_scale, move, start)


def mean_step(z: Tensor, epsilon: Tensor, levels: Levels) -> Tensor:
    """Returns the mean of DDPM's step from latents ``(B, C, h, w)``."""
    return noisy_step(z, epsilon, levels, 1.0, 0.0, torch.zeros_like(z))


@torch.no_grad()
def noise_maps(
    model: EditableModel, x0: Tensor, source: SourcePrompt, num_inference_steps: int, generator: torch.Generator
) -> NoiseMaps:
    """Inverts clean latents ``(B, C, h, w)``.

    Args:
        model: a diffusion model, with whatever is applied to it.
        x0: the latents.
        source: prompts, seeds and guidance.
        num_inference_steps: number of sampling steps.
        generator: of the noise, on the CPU.
    """
    scheduler = cast(DiffusionSampler, model).scheduler
    noised = []
    for t in inference_timesteps(scheduler, num_inference_steps):
        signal = float(scheduler.alphas_cumprod[t])
        noise = torch.randn(x0.shape, generator=generator).to(x0)
        noised.append(signal**0.5 * x0 + (1 - signal) ** 0.5 * noise)
    differences = list[Tensor]()

    def move(z: Tensor, epsilon: Tensor, levels: Levels) -> Tensor:
        after = noised[levels.index + 1]
        differences.append(after - mean_step(z, epsilon, levels))
        return after

    start = StartAt(noised[0])
    sample_latents(model, source.prompts, source.seeds, num_inference_steps, source.guidance_scale, move, start)
    return NoiseMaps(torch.stack(noised), torch.stack(differences))
