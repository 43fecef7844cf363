"""What every adapter of a diffusers pipeline does with its denoiser, scheduler and autoencoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .fingerprint import fingerprint
from .module_checks import check_own_weights
from .placement import execution_device, placed

DENOISERS = ("unet", "transformer")
"""Names of the components that predict; a pipeline has one of them."""


def denoiser_name(components: Mapping[str, nn.Module]) -> str:
    """Returns the name of the denoiser among a model's components."""
    return next(name for name in DENOISERS if name in components)


class PipelineParts:
    """The part of an adapter that does not depend on the kind of denoiser; an adapter inherits it.

    Attributes:
        components: text encoders, denoiser and autoencoder by name.
        scheduler: the pipeline's scheduler.
        vae: the autoencoder.
    """

    components: dict[str, nn.Module]
    scheduler: Any
    vae: Any

    @property
    def image_size(self) -> int:
        """Height and width of an image in pixels."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """The device that the model computes on."""
        return execution_device(self._denoiser)  # diffusers' own property first visits every layer

    @property
    def num_train_timesteps(self) -> int:
        """Number of noise levels that the model was trained on; a flow's timestep of pure noise."""
        return int(self.scheduler.config.num_train_timesteps)

    @property
    def vae_scale_factor(self) -> int:
        """Pixels per latent cell along height and width."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def default_batch_size(self) -> int:
        """Number of images that `sample` generates at a time by default: at most 16, two of 1024 x 1024 pixels."""
        return max(1, min(16, 2**21 // self.image_size**2))

    def freeze(self) -> None:
        """Puts every component in evaluation mode, without gradients for its parameters."""
        for module in self.components.values():
            module.eval().requires_grad_(False)

    def fingerprint(self) -> dict[str, dict[str, Any]]:
        """Returns the fingerprint of every component (see `efface.models.fingerprint`).

        Raises:
            EffaceError: the weights are offloaded or have adapter layers.
        """
        check_own_weights(self.components)
        return {name: fingerprint(module) for name, module in self.components.items()}

    def decode(self, z: Tensor) -> Tensor:
        """Decodes latents ``(B, C, h, w)`` to images ``(B, 3, H, W)`` in [0, 1]."""
        return (self._run_vae(self._decode, z) / 2 + 0.5).clamp(0, 1)

    def encode_image(self, images: Tensor) -> Tensor:
        """Encodes images ``(B, 3, H, W)`` in [0, 1] to latents (the posterior's mean)."""
        latents = self._run_vae(self._encode, images.to(self.device)) - self._latent_shift
        return (latents * self.vae.config.scaling_factor).to(self._denoiser.dtype)

    @property
    def _denoiser(self) -> Any:
        return self.components[denoiser_name(self.components)]

    @property
    def _latent_shift(self) -> float:
        """Mean that the autoencoder's latents have before scaling; 0 for Stable Diffusion 1, 2 and XL."""
        return float(self.vae.config.shift_factor or 0.0)

    def _decode(self, z: Tensor) -> Tensor:
        latents = z / self.vae.config.scaling_factor + self._latent_shift
        images: Tensor = self.vae.decode(latents.to(self.vae.dtype)).sample
        return images

    def _encode(self, images: Tensor) -> Tensor:
        latents: Tensor = self.vae.encode(images.to(self.vae.dtype) * 2 - 1).latent_dist.mean
        return latents

    def _run_vae(self, run: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        """Runs the autoencoder; one that overflows in float16 is moved to float32 for good, and runs again."""
        with placed(self.vae):
            outputs = run(inputs)
            if self.vae.dtype == torch.float16 and not bool(outputs.isfinite().all()) and bool(inputs.isfinite().all()):
                self.vae.to(torch.float32)
                outputs = run(inputs)
        return outputs
