"""Settings of the trajectories that a method samples from the original model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from efface.models.editable import EditableModel

from .trajectory_pool import TrajectoryPool

DEFAULT_GUIDANCE_SCALE = 3.0
"""Classifier-free guidance scale of trajectories; ESD's (arXiv 2303.07345)."""


@dataclass(frozen=True)
class TrajectoryConfig:
    """Settings of sampling trajectories.

    Attributes:
        per_prompt: trajectories of each prompt.
        num_inference_steps: DDIM steps of a trajectory.
        guidance_scale: guidance scale of a trajectory; None for the one that the denoiser reads (FLUX), else 3.
    """

    per_prompt: int = 1
    num_inference_steps: int = 50
    guidance_scale: float | None = None

    def build_pool(self, model: EditableModel, prompts: Sequence[str], seed: int) -> TrajectoryPool:
        """Samples the trajectories of the prompts with the original model."""
        guidance_scale = self.guidance_scale
        if guidance_scale is None:
            read = model.prediction_guidance_scale
            guidance_scale = DEFAULT_GUIDANCE_SCALE if read is None else read
        return TrajectoryPool(
            model,
            prompts,
            trajectories_per_prompt=self.per_prompt,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=guidance_scale,
            seed=seed,
        )
