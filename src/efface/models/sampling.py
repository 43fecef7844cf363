"""Guided sampling with DDIM for latent diffusion models: initial noise, trajectories and images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from efface.core.errors import EffaceError

from .batch_rows import BatchRows, announced_rows
from .guidance_hooks import GuidanceChain, GuidanceEdit, GuidedStep, LatentEdit
from .image_checks import check_generated
from .memory import oom_as_user_error
from .module_checks import check_not_offloaded, check_one_precision
from .prompt_encoder import PromptEncoder
from .protocol import Conditioning, Params, Prediction, TrajectoryPoint
from .scheduler import ddim_step, inference_timesteps
from .soft_prompt import SoftTokens

Progress = Callable[[int], None]
TOO_MANY = "{n} images at once are too many: lower batch_size, or choose a smaller dtype"


class DiffusionSampler(PromptEncoder):
    """The part of a model that samples; an adapter inherits it, and sets its denoiser, scheduler and guidance edits.

    Attributes:
        unet: the denoiser.
        components: text encoders, denoiser and autoencoder by name.
        scheduler: a diffusers DDIM scheduler.
        guidance_edits: edits of the guided prediction, in the order in which they apply.
        latent_edits: edits of the latents before each step, likewise.
    """

    unet: Any
    components: dict[str, nn.Module]
    scheduler: Any
    guidance_edits: list[GuidanceEdit]
    latent_edits: list[LatentEdit]

    @property
    def denoiser(self) -> Any:
        """The module that predicts."""
        return self.unet

    @property
    def default_guidance_scale(self) -> float:
        """Guidance scale of images that a check generates."""
        return 3.0

    @property
    def prediction_guidance_scale(self) -> float | None:
        """Guidance scale that predictions outside of sampling read; None where guidance needs two predictions."""
        return None

    @property
    def default_batch_size(self) -> int:
        """Number of images that `sample` generates at a time by default."""
        raise NotImplementedError

    def unconditional(self, count: int) -> Conditioning:
        """Returns ``count`` rows of the conditioning of unconditional predictions."""
        raise NotImplementedError

    def predict(self, z: Tensor, t: Tensor | float, cond: Conditioning, *, params: Params | None = None) -> Prediction:
        """Runs the denoiser once."""
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        """Decodes latents to images in [0, 1]."""
        raise NotImplementedError

    def initial_noise(self, seeds: Sequence[int]) -> Tensor:
        """Returns the latents ``(B, C, h, w)`` that sampling starts from; each row depends on its own seed only."""
        side = self.unet.config.sample_size
        shape = (self.unet.config.in_channels, side, side)
        rows = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(rows).to(self.device, self.unet.dtype) * self.scheduler.init_noise_sigma

    @torch.no_grad()
    def trajectory(
        self,
        cond: Conditioning,
        *,
        num_inference_steps: int,
        guidance_scale: float,
        seeds: Sequence[int],
        params: Params | None = None,
    ) -> Iterator[TrajectoryPoint]:
        """Samples with DDIM and classifier-free guidance, changed by `guidance_edits`.

        Args:
            cond: conditioning of B prompts.
            num_inference_steps: number of DDIM steps.
            guidance_scale: classifier-free guidance scale; 1 or less disables guidance, as in diffusers.
            seeds: one for each prompt.
            params: tensors by parameter name that replace the denoiser's own.

        Yields:
            Every step before it is taken, and at last the clean latent with t = -1.
        """
        guide = GuidanceChain(self.guidance_edits, cond)
        joint_cond, rows = self._joint(cond, guide)
        z, num_extra = self.initial_noise(seeds), len(guide.prompts)
        guidance_scale = max(guidance_scale, 1.0)
        timesteps = inference_timesteps(self.scheduler, num_inference_steps)
        for index, (t, next_t) in enumerate(pairwise((*timesteps, -1))):
            for edit in self.latent_edits:
                z = edit.change_latent(z, index, num_inference_steps, t, seeds)
            with announced_rows(self.denoiser, rows):
                joint = self.predict(torch.cat([z] * len(rows.chunks)), t, joint_cond, params=params)
            c, u, *rest = (joint[start : start + len(z)] for start in range(0, len(joint.z), len(z)))
            yield TrajectoryPoint(z, t, c, u)
            values = tuple(p.value for p in rest)
            step = GuidedStep(
                index, num_inference_steps, t, guidance_scale, c.value, u.value, values[:num_extra],
                without=guide.without(values[num_extra:]),
            )  # fmt: skip
            z = ddim_step(self.scheduler, guide(step), t, next_t, z)
        yield TrajectoryPoint(z, -1, c, u)

    def _joint(self, cond: Conditioning, guide: GuidanceChain) -> tuple[Conditioning, BatchRows]:
        """Returns the conditioning of a step's joint batch, and its layout (see `GuidanceChain.chunks`)."""
        count = len(cond.states)
        unconditional = self.unconditional(count)
        others = [unconditional, *(self.encode([prompt] * count) for prompt in guide.prompts)]
        others += [other for _ in guide.adapters for other in (cond, unconditional)]
        return Conditioning.cat([cond, *others]), BatchRows(cond, guide.chunks)

    @torch.no_grad()
    def sample(
        self, prompts: Sequence[str], *, seeds: Sequence[int], num_inference_steps: int = 20,
        guidance_scale: float = 3.0, batch_size: int | None = None, soft: SoftTokens | None = None,
        progress: Progress | None = None,
    ) -> Tensor:  # fmt: skip
        """Generates one image for each prompt and seed.

        Args:
            prompts: N prompts; the empty prompt generates unconditionally.
            seeds: one for each prompt. An image depends on its own prompt and seed only, not on its batch.
            num_inference_steps: number of DDIM steps.
            guidance_scale: classifier-free guidance scale; 1 or less disables guidance, as in diffusers.
            batch_size: number of images generated at a time; `default_batch_size` if None.
            soft: embeddings that replace some of the prompts' tokens, one row for each prompt.
            progress: called after each batch with the number of images in it.

        Returns:
            Images ``(N, 3, H, W)`` in [0, 1], on the CPU.

        Raises:
            EffaceError: prompts and seeds differ in number, the number of steps is out of range, weights are
                offloaded or of several precisions, memory does not suffice, or an image is not finite.
        """
        if len(prompts) != len(seeds):
            raise EffaceError(f"{len(prompts)} prompts but {len(seeds)} seeds; give one seed for each prompt")
        check_not_offloaded(self.components)
        check_one_precision(self.components)
        options: dict[str, Any] = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
        batch_size, images = batch_size or self.default_batch_size, []
        for start in range(0, len(prompts), batch_size):
            rows = slice(start, start + batch_size)
            with oom_as_user_error(TOO_MANY.format(n=len(prompts[rows]))):
                cond = self.encode(prompts[rows], soft=None if soft is None else soft[rows])
                z = self.sample_latents(cond, seeds=seeds[rows], **options)
                batch = self.decode(z).float().cpu()
            images.append(check_generated(batch, prompts[rows], seeds[rows], self.denoiser.dtype))
            if progress:
                progress(len(images[-1]))
        return torch.cat(images)

    def sample_latents(
        self, cond: Conditioning, *, num_inference_steps: int, guidance_scale: float, seeds: Sequence[int]
    ) -> Tensor:
        """Samples the clean latents ``(B, C, h, w)`` of B prompts; see `trajectory`."""
        points = self.trajectory(
            cond, num_inference_steps=num_inference_steps, guidance_scale=guidance_scale, seeds=seeds
        )
        for point in points:
            z = point.z
        return z
