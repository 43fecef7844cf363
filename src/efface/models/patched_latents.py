"""Latents that a transformer cuts into patches itself, as in SD3 and Sana; FLUX's come packed."""

from __future__ import annotations

from typing import Any


class PatchedLatents:
    """Sizes and noise levels of an adapter whose transformer states them.

    Attributes:
        transformer: the denoiser.
    """

    transformer: Any

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a latent."""
        side = int(self.transformer.config.sample_size)
        return int(self.transformer.config.in_channels), side, side

    @property
    def num_image_tokens(self) -> int:
        """Number of tokens that the denoiser makes of a latent."""
        return (self.latent_shape[-1] // int(self.transformer.config.patch_size)) ** 2

    def sampler_sigmas(self, num_inference_steps: int) -> Any:
        """Returns None: the scheduler spaces its own noise levels evenly before the shift."""
        return
