"""The adapter for Stable Diffusion 1.x, 2.x and XL: CLIP text encoders, a conditional UNet, an autoencoder.

Pocket has the architecture of Stable Diffusion 1. The families differ in the number of text encoders
(`efface.models.prompt_encoder`), in the UNet's prediction type, epsilon or velocity (`Prediction` converts), and in
SDXL's additional conditions: the pooled state and the size of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .fingerprint import fingerprint
from .float32_weights import WeightSource
from .guidance_hooks import GuidanceEdit
from .module_checks import check_own_weights
from .parameter_groups import TEXT_ENCODER_2, ParameterGroup, call_with_params, select_parameters
from .pipeline import pipeline_family, validate_pipeline
from .prompt_encoder import check_same_vocabulary, set_end_of_text
from .protocol import Conditioning, Params, Prediction
from .sampling import DiffusionSampler
from .scheduler import to_ddim
from .text_encoder import TextEncoder


class StableDiffusionModel(DiffusionSampler):
    """A diffusers ``StableDiffusionPipeline`` or ``StableDiffusionXLPipeline`` behind the model protocol.

    Args:
        pipe: the pipeline; its components are used in place, never copied.
        name: the model's name in results.
        weight_source: the files that the weights came from; None for a pipeline in memory.
        unread_tensors: tensors of the checkpoint that no component has a place for, by their names in it; an export to
            one file writes them again.

    Raises:
        EffaceError: the pipeline's class is not supported, a component is missing or precisions differ.
    """

    def __init__(
        self,
        pipe: Any,
        name: str,
        unread_tensors: Mapping[str, Tensor] | None = None,
        weight_source: WeightSource | None = None,
    ) -> None:
        self.name = name
        self.weight_source = weight_source
        self.unread_tensors = dict(unread_tensors or {})
        self.pipe = validate_pipeline(pipe)
        self.family = pipeline_family(pipe)
        self.tokenizer = pipe.tokenizer
        self.text_encoder = pipe.text_encoder
        self.unet = pipe.unet
        self.vae = pipe.vae
        encoders = [TextEncoder("text_encoder", pipe.tokenizer, pipe.text_encoder)]
        if self.family == "sdxl":
            encoders.append(TextEncoder(TEXT_ENCODER_2, pipe.tokenizer_2, pipe.text_encoder_2))
        self.encoders = check_same_vocabulary(tuple(encoders))
        set_end_of_text(self.encoders)
        self.scheduler = to_ddim(pipe.scheduler)
        self.components: dict[str, nn.Module] = {encoder.component: encoder.module for encoder in self.encoders}
        self.components |= {"unet": self.unet, "vae": self.vae}
        self.guidance_edits: list[GuidanceEdit] = []
        for module in self.components.values():
            module.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """The device that the model computes on."""
        return next(self.unet.parameters()).device  # diffusers' own property first visits every layer

    @property
    def image_size(self) -> int:
        """Height and width of an image in pixels."""
        return int(self.unet.config.sample_size * self.vae_scale_factor)

    @property
    def num_train_timesteps(self) -> int:
        """Number of noise levels that the model was trained on."""
        return int(self.scheduler.config.num_train_timesteps)

    @property
    def vae_scale_factor(self) -> int:
        """Pixels per latent cell along height and width."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def default_batch_size(self) -> int:
        """Number of images that `sample` generates at a time by default: at most 16, two of 1024 x 1024 pixels."""
        return max(1, min(16, 2**21 // self.image_size**2))

    def unconditional(self, count: int) -> Conditioning:
        """Returns ``count`` rows of the conditioning of unconditional predictions.

        It is the empty prompt's, or zeros where the pipeline sets ``force_zeros_for_empty_prompt`` (SDXL).
        """
        empty = self.encode([""] * count)
        if not self.pipe.config.get("force_zeros_for_empty_prompt", False):
            return empty
        return Conditioning(torch.zeros_like(empty.states), torch.zeros_like(empty.pooled))

    def predict(self, z: Tensor, t: Tensor | float, cond: Conditioning, *, params: Params | None = None) -> Prediction:
        """Runs the denoiser once.

        Args:
            z: latents, ``(B, C, h, w)``.
            t: timesteps, ``(B,)`` or one for all.
            cond: conditioning of B prompts.
            params: tensors by parameter name that replace the denoiser's own.
        """
        timesteps = torch.as_tensor(t, device=z.device).long().expand(len(z))
        added = {"added_cond_kwargs": self._sdxl_conditions(z, cond)} if self.family == "sdxl" else {}
        value = call_with_params(self.unet, params or {}, z, timesteps, cond.states, **added).sample
        alpha_squared = self.scheduler.alphas_cumprod.to(z.device)[timesteps][:, None, None, None]
        alpha, sigma = alpha_squared.sqrt().to(z.dtype), (1 - alpha_squared).sqrt().to(z.dtype)
        return Prediction(value, self.scheduler.config.prediction_type, z, alpha, sigma)

    def _sdxl_conditions(self, z: Tensor, cond: Conditioning) -> dict[str, Tensor]:
        """Returns SDXL's additional conditions: pooled state, original size, crop corner (0, 0) and target size."""
        height, width = (side * self.vae_scale_factor for side in z.shape[-2:])
        sizes = torch.tensor([[height, width, 0, 0, height, width]], device=z.device, dtype=cond.states.dtype)
        return {"text_embeds": cond.pooled, "time_ids": sizes.expand(len(z), -1)}

    def add_noise(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Adds noise to clean latents ``(B, C, h, w)`` at timesteps ``(B,)``: alpha_t x0 + sigma_t noise."""
        return self.scheduler.add_noise(clean, noise, t)

    def parameter_group(self, role: str) -> ParameterGroup:
        """Returns the parameters of a role, such as ``cross_kv`` (see `efface.models.parameter_roles`).

        Raises:
            EffaceError: no such role, or the weights are offloaded or have adapter layers.
        """
        check_own_weights(self.components)
        return select_parameters(self.components, role, [encoder.component for encoder in self.encoders[:-1]])

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
        latents = self._run_vae(self._encode, images.to(self.device))
        return (latents * self.vae.config.scaling_factor).to(self.unet.dtype)

    def _decode(self, z: Tensor) -> Tensor:
        return self.vae.decode((z / self.vae.config.scaling_factor).to(self.vae.dtype)).sample  # type: ignore[no-any-return]

    def _encode(self, images: Tensor) -> Tensor:
        return self.vae.encode(images.to(self.vae.dtype) * 2 - 1).latent_dist.mean  # type: ignore[no-any-return]

    def _run_vae(self, run: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        """Runs the autoencoder; one that overflows in float16 is moved to float32 for good, and runs again."""
        outputs = run(inputs)
        if self.vae.dtype == torch.float16 and not bool(outputs.isfinite().all()) and bool(inputs.isfinite().all()):
            self.vae.to(torch.float32)
            outputs = run(inputs)
        return outputs
