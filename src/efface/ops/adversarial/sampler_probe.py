"""Sampling of an erased model with another step: the model predicts and is guided as always, the probe moves on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from efface.models.editable import EditableModel
from efface.models.guidance_hooks import GuidedStep, LatentEdit, Rule
from efface.models.sampling import DiffusionSampler
from efface.models.scheduler import inference_timesteps


@dataclass(frozen=True)
class Levels:
    """One step of sampling.

    Attributes:
        t: timestep.
        alpha: signal level at t.
        sigma: noise level at t.
        next_alpha: signal level after the step.
        next_sigma: noise level after it.
        index: number of the step; 0 is the noisiest.
    """

    t: int
    alpha: float
    sigma: float
    next_alpha: float
    next_sigma: float
    index: int


Move = Callable[[Tensor, Tensor, Levels], Tensor]
"""Maps latents ``(B, C, h, w)``, their guided noise prediction and the levels to the latents after the step."""


class SamplerProbe:
    """A guidance edit whose rule makes DDIM step to where `move` leads; all steps but the last.

    DDIM's step is linear in the prediction, so that some prediction leads to every latent. The rule comes after the
    erasure's own, and its latents after the erasure's edits of latents.

    Args:
        model: a diffusion model.
        num_inference_steps: number of sampling steps.
        move: the step.
    """

    prompts: tuple[str, ...] = ()
    adapter = ""
    gate = None

    def __init__(self, model: EditableModel, num_inference_steps: int, move: Move) -> None:
        self._scheduler = cast(DiffusionSampler, model).scheduler
        self._timesteps = inference_timesteps(self._scheduler, num_inference_steps)
        self._move = move
        self._z = torch.empty(0)

    def change_latent(self, z: Tensor, index: int, num_inference_steps: int, t: float, seeds: Sequence[int]) -> Tensor:
        """Notes the latents of a step and leaves them as they are."""
        self._z = z
        return z

    def new_rule(self) -> Rule:
        """Returns the rule for one trajectory."""

        def rule(guided: Tensor, step: GuidedStep) -> Tensor:
            if step.index + 1 >= len(self._timesteps):
                return guided
            levels, z = self._levels(step.index), self._z
            is_epsilon = self._scheduler.config.prediction_type == "epsilon"
            epsilon = guided if is_epsilon else levels.alpha * guided + levels.sigma * z
            target = self._move(z, epsilon, levels)
            a, s, b, r = levels.alpha, levels.sigma, levels.next_alpha, levels.next_sigma
            if is_epsilon:
                return (target - b / a * z) / (r - b * s / a)
            return (target - (a * b + s * r) * z) / (r * a - b * s)

        return rule

    def _levels(self, index: int) -> Levels:
        alphas, (t, next_t) = self._scheduler.alphas_cumprod, self._timesteps[index : index + 2]
        now, after = float(alphas[t]), float(alphas[next_t])
        return Levels(t, now**0.5, (1 - now) ** 0.5, after**0.5, (1 - after) ** 0.5, index)


class StartAt:
    """A latent edit that replaces the latents of one step by given ones ``(B, C, h, w)``."""

    def __init__(self, latents: Tensor, step: int = 0) -> None:
        self._latents = latents
        self._step = step

    def change_latent(self, z: Tensor, index: int, num_inference_steps: int, t: float, seeds: Sequence[int]) -> Tensor:
        """Returns the given latents at their step."""
        return self._latents.to(z) if index == self._step else z


def noisy_step(z: Tensor, epsilon: Tensor, levels: Levels, eta: float, nu: float, noise: Tensor) -> Tensor:
    """Takes a step of DDIM with noise (Song et al. 2021, arXiv 2010.02502, Eq. 12 and 16).

        sigma  = eta ((1 - a') / (1 - a))^1/2 (1 - a / a')^1/2
        z'     = a'^1/2 x0 + |1 - a' - sigma^2|^1/2 e + nu sigma n

    a and a' are the squared signal levels before and after the step. With eta = nu = 1 it is DDPM's step.

    Args:
        z: latents, like all tensors ``(B, C, h, w)``.
        epsilon: e, the guided noise prediction.
        levels: the levels.
        eta: strength of the noise.
        nu: further scale of the noise.
        noise: n.
    """
    ratio = levels.alpha**2 / levels.next_alpha**2
    sigma = eta * levels.next_sigma / levels.sigma * (1 - ratio) ** 0.5
    clean = (z - levels.sigma * epsilon) / levels.alpha
    direction = abs(levels.next_sigma**2 - sigma**2) ** 0.5
    return levels.next_alpha * clean + direction * epsilon + nu * sigma * noise


def sample_latents(
    model: EditableModel, prompts: Sequence[str], seeds: Sequence[int], steps: int, guidance_scale: float, move: Move,
    start: StartAt | None = None,
) -> Tensor:  # fmt: skip
    """Samples clean latents ``(B, C, h, w)`` with another step than DDIM's.

    Args:
        model: a diffusion model, with whatever is applied to it.
        prompts: B prompts.
        seeds: B seeds.
        steps: number of sampling steps.
        guidance_scale: classifier-free guidance scale.
        move: the step.
        start: latents that replace those of a step, before the erasure's own edits of latents.
    """
    probe = SamplerProbe(model, steps, move)
    own: list[LatentEdit] = [start, probe] if start else [probe]
    model.guidance_edits.append(probe)
    model.latent_edits[:] = [*own[:-1], *model.latent_edits, probe]
    try:
        points = model.trajectory(
            model.encode(prompts), num_inference_steps=steps, guidance_scale=guidance_scale, seeds=seeds
        )
        for point in points:
            z = point.z
    finally:
        model.guidance_edits.remove(probe)
        for edit in own:
            model.latent_edits.remove(edit)
    return z
