"""The adapter for Stable Diffusion 1.x, 2.x and XL: CLIP text encoders, a conditional UNet, an autoencoder.

Pocket has the architecture of Stable Diffusion 1. The families differ in the number of text encoders
(`efface.models.prompt_encoder`), in the UNet's prediction type, epsilon or velocity (`Prediction` converts), and in
SDXL's additional conditions: the pooled state and the size of the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .float32_weights import WeightSource
from .guidance_hooks import GuidanceEdit, LatentEdit
from .module_checks import check_trainable_weights
from .parameter_groups import TEXT_ENCODER_2, ParameterGroup, call_with_params, select_parameters
from .pipeline import pipeline_family, validate_pipeline
from .pipeline_parts import PipelineParts
from .prompt_encoder import check_same_vocabulary, set_end_of_text
from .protocol import Conditioning, Params, Prediction
from .sampling import DiffusionSampler
from .scheduler import to_ddim
from .text_encoder import TextEncoder


class StableDiffusionModel(PipelineParts, DiffusionSampler):
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
        self.latent_edits: list[LatentEdit] = []
        self.freeze()

    @property
    def image_size(self) -> int:
        """Height and width of an image in pixels."""
        return int(self.unet.config.sample_size * self.vae_scale_factor)

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
            EffaceError: no such role, or the weights are offloaded, quantized or have adapter layers.
        """
        check_trainable_weights(self.components)
        return select_parameters(self.components, role, [encoder.component for encoder in self.encoders[:-1]])
