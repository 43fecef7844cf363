"""Sampling of flow models with their pipeline's own Euler scheduler, which carries the shift of noise levels.

Flow matching (Lipman et al. 2022, arXiv 2210.02747; Esser et al. 2024, arXiv 2403.03206): z_t = (1 - sigma) x0 +
sigma eps, and the denoiser predicts eps - x0. A timestep is ``1000 sigma``, any number between 0 and 1000.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from efface.core.errors import EffaceError

from .batch_rows import ALL_ON, BatchRows, announced_rows
from .guidance_hooks import GuidanceChain, GuidedStep
from .protocol import Conditioning, Params, Prediction, TrajectoryPoint
from .sampling import DiffusionSampler


def check_flow_scheduler(scheduler: Any) -> Any:
    """Returns a flow model's scheduler.

    Raises:
        EffaceError: it is not Euler's sampler for flow matching.
    """
    if not isinstance(scheduler, FlowMatchEulerDiscreteScheduler) or scheduler.config.stochastic_sampling:
        raise EffaceError(
            f"the model's scheduler ({type(scheduler).__name__}) is not Euler's sampler for flow matching: set "
            "pipe.scheduler = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config)"
        )
    return scheduler


class FlowSampler(DiffusionSampler):
    """The part of a flow model that samples.

    Attributes:
        transformer: the denoiser.
        scheduler: a diffusers ``FlowMatchEulerDiscreteScheduler``.
        guided_by_pairs: whether sampling uses classifier-free guidance, as SD3 does. FLUX is guidance-distilled: its
            denoiser reads the guidance scale, or needs none.
    """

    transformer: Any
    guided_by_pairs: bool

    @property
    def denoiser(self) -> Any:
        """The module that predicts."""
        return self.transformer

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a latent."""
        raise NotImplementedError

    def sampler_sigmas(self, num_inference_steps: int) -> Any:
        """Returns the noise levels that the pipeline gives to its scheduler before the shift; None for its own."""
        raise NotImplementedError

    @property
    def num_image_tokens(self) -> int:
        """Number of tokens that the denoiser makes of a latent; dynamic shifting depends on it."""
        raise NotImplementedError

    def check_guidance_scale(self, guidance_scale: float) -> None:
        """Raises `EffaceError` if the model has no use for the guidance scale."""

    def initial_noise(self, seeds: Sequence[int]) -> Tensor:
        """Returns the latents ``(B, C, h, w)`` that sampling starts from; each row depends on its own seed only."""
        rows = [torch.randn(self.latent_shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(rows).to(self.device, self.transformer.dtype)

    def noise_level(self, t: Tensor | float, like: Tensor) -> Tensor:
        """Returns sigma at timesteps ``(B,)`` or one for all, ``(B, 1, 1, 1)``, in the dtype of ``like``."""
        timesteps = torch.as_tensor(t, device=like.device, dtype=torch.float32).expand(len(like))
        return (timesteps / self.scheduler.config.num_train_timesteps).to(like.dtype)[:, None, None, None]

    def flow_prediction(self, value: Tensor, z: Tensor, t: Tensor | float) -> Prediction:
        """Returns the prediction eps - x0 at latents ``(B, C, h, w)`` and timesteps."""
        sigma = self.noise_level(t, z)
        return Prediction(value, "flow", z, 1 - sigma, sigma)

    def add_noise(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Adds noise to clean latents ``(B, C, h, w)`` at timesteps ``(B,)``: (1 - sigma) x0 + sigma noise."""
        sigma = self.noise_level(t, clean)
        return (1 - sigma) * clean + sigma * noise

    def schedule(self, num_inference_steps: int) -> Any:
        """Returns a scheduler of its own for one trajectory; it counts steps, so that trajectories cannot share one."""
        trained = int(self.scheduler.config.num_train_timesteps)
        if not 1 <= num_inference_steps <= trained:
            raise EffaceError(f"{num_inference_steps} sampling steps are not possible: give 1 to {trained} (--steps)")
        scheduler = copy.deepcopy(self.scheduler)
        config = scheduler.config
        mu = None
        if config.use_dynamic_shifting:  # linear in the number of tokens, as in the pipelines' calculate_shift
            slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
            mu = config.base_shift + slope * (self.num_image_tokens - config.base_image_seq_len)
        sigmas = self.sampler_sigmas(num_inference_steps)
        scheduler.set_timesteps(num_inference_steps, device=self.device, sigmas=sigmas, mu=mu)
        scheduler.set_begin_index(0)
        return scheduler

    def trajectory(
        self,
        cond: Conditioning,
        *,
        num_inference_steps: int,
        guidance_scale: float,
        seeds: Sequence[int],
        params: Params | None = None,
    ) -> Iterator[TrajectoryPoint]:
        """Samples with the flow's Euler method and guidance, changed by `guidance_edits`.

        Args:
            cond: conditioning of B prompts.
            num_inference_steps: number of steps.
            guidance_scale: classifier-free guidance scale, of which 1 or less disables guidance, or the one that a
                guidance-distilled denoiser reads.
            seeds: one for each prompt.
            params: tensors by parameter name that replace the denoiser's own.

        Yields:
            Every step before it is taken, and at last the clean latent with t = -1.
        """
        return self._points(cond, num_inference_steps, guidance_scale, seeds, params, unconditional=True)

    @torch.no_grad()
    def _points(
        self,
        cond: Conditioning,
        num_inference_steps: int,
        guidance_scale: float,
        seeds: Sequence[int],
        params: Params | None = None,
        *,
        unconditional: bool,
    ) -> Iterator[TrajectoryPoint]:
        """Yields a trajectory's points; without ``unconditional``, the prediction for the prompt takes its place."""
        self.check_guidance_scale(guidance_scale)
        guide = GuidanceChain(self.guidance_edits, cond)
        others = [self.unconditional(len(seeds))] if unconditional else []
        others += [self.encode([prompt] * len(seeds)) for prompt in guide.prompts]
        joint_cond = Conditioning.cat([replace(cond, guidance=None), *others]).with_guidance(guidance_scale)
        rows = BatchRows(cond, (ALL_ON,) * (1 + len(others)))
        pair_scale = max(guidance_scale, 1.0) if self.guided_by_pairs else 1.0
        z, scheduler = self.initial_noise(seeds), self.schedule(num_inference_steps)
        for index, t in enumerate(scheduler.timesteps):
            for edit in self.latent_edits:
                z = edit.change_latent(z, index, num_inference_steps, float(t), seeds)
            with announced_rows(self.denoiser, rows):
                joint = self.predict(torch.cat([z] * len(rows.chunks)), t, joint_cond, params=params)
            c, *rest = (joint[start : start + len(z)] for start in range(0, len(joint.z), len(z)))
            u, extra = (rest[0], rest[1:]) if unconditional else (c, rest)
            yield TrajectoryPoint(z, float(t), c, u)
            values = tuple(p.value for p in extra)
            step = GuidedStep(
                index, num_inference_steps, float(t), pair_scale, c.value, u.value, values, self.guided_by_pairs
            )
            z = scheduler.step(guide(step), t, z).prev_sample
        yield TrajectoryPoint(z, -1, c, u)

    @torch.no_grad()
    def sample_latents(
        self, cond: Conditioning, *, num_inference_steps: int, guidance_scale: float, seeds: Sequence[int]
    ) -> Tensor:
        """Samples clean latents ``(B, C, h, w)``; predicts for the empty prompt only where guidance reads it."""
        needs_empty = (self.guided_by_pairs and guidance_scale > 1) or bool(self.guidance_edits)
        for point in self._points(cond, num_inference_steps, guidance_scale, seeds, unconditional=needs_empty):
            z = point.z
        return z
