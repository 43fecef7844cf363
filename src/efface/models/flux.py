"""The adapter for FLUX.1: CLIP's pooled state, T5's states, a transformer on packed latents, flow matching.

FLUX.1-dev and FLUX.1-schnell have one architecture. The transformer of dev has learnt to imitate classifier-free
guidance (Meng et al. 2022, arXiv 2210.03142) and reads the guidance scale (``guidance_embeds``); schnell's needs no
guidance. Neither predicts for the empty prompt while sampling, as their pipeline does not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from efface.core.errors import EffaceError

from .float32_weights import WeightSource
from .flow_model import FlowModel
from .flow_prompt_encoder import MAX_T5_LENGTH, FluxPromptEncoder
from .parameter_groups import call_with_params
from .protocol import Conditioning, Params, Prediction

PACKING = 2
"""Height and width of the patch of latent cells that one image token packs."""
DEFAULT_GUIDANCE_SCALE = 3.5
"""Guidance scale that the denoiser reads in a prediction outside of sampling; the pipeline's default."""


class FluxModel(FluxPromptEncoder, FlowModel):
    """A diffusers ``FluxPipeline`` behind the model protocol.

    Args:
        pipe: the pipeline; its components are used in place, never copied.
        name: the model's name in results.
        weight_source: the files that the weights came from; None for a pipeline in memory.

    Raises:
        EffaceError: a component is missing, precisions differ or the images' size does not fit the packing.
    """

    family = "flux"
    guided_by_pairs = False
    text_tokens_first = True

    def __init__(self, pipe: Any, name: str, weight_source: WeightSource | None = None) -> None:
        super().__init__(pipe, name, weight_source)
        self.max_sequence_length = min(pipe.tokenizer_2.model_max_length, MAX_T5_LENGTH)
        if self.latent_shape[-1] % PACKING:
            raise EffaceError(f"FLUX packs 2 x 2 latent cells: {self.image_size} pixels do not divide evenly")

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a latent; the autoencoder's configuration states the image's size."""
        side = int(self.vae.config.sample_size) // self.vae_scale_factor
        return int(self.transformer.config.in_channels) // PACKING**2, side, side

    @property
    def num_image_tokens(self) -> int:
        """Number of tokens that the denoiser makes of a latent."""
        return (self.latent_shape[-1] // PACKING) ** 2

    @property
    def reads_guidance(self) -> bool:
        """Whether the denoiser reads the guidance scale, as FLUX.1-dev's does and FLUX.1-schnell's does not."""
        return bool(self.transformer.config.guidance_embeds)

    @property
    def default_guidance_scale(self) -> float:
        """Guidance scale of images that a check generates."""
        return DEFAULT_GUIDANCE_SCALE if self.reads_guidance else 0.0

    @property
    def prediction_guidance_scale(self) -> float | None:
        """Guidance scale that predictions outside of sampling read; 0 where the denoiser reads none."""
        return self.default_guidance_scale

    def sampler_sigmas(self, num_inference_steps: int) -> Any:
        """Returns the noise levels before the shift: evenly spaced from 1 to 1 / steps."""
        return np.linspace(1.0, 1 / num_inference_steps, num_inference_steps)

    def check_guidance_scale(self, guidance_scale: float) -> None:
        """Raises `EffaceError` for a guidance scale above 0 if the denoiser reads none."""
        if guidance_scale > 0 and not self.reads_guidance:
            raise EffaceError(
                f"{self.name} is a FLUX model without guidance, as FLUX.1-schnell is: set the guidance scale to 0, not "
                f"{guidance_scale:g}"
            )

    def predict(self, z: Tensor, t: Tensor | float, cond: Conditioning, *, params: Params | None = None) -> Prediction:
        """Runs the denoiser once.

        Args:
            z: latents, ``(B, C, h, w)``.
            t: timesteps ``1000 sigma``, ``(B,)`` or one for all.
            cond: conditioning of B prompts; without a guidance scale it is `DEFAULT_GUIDANCE_SCALE`.
            params: tensors by parameter name that replace the denoiser's own.
        """
        height, width = z.shape[-2] // PACKING, z.shape[-1] // PACKING
        inputs: dict[str, Any] = {
            "hidden_states": pixel_unshuffle(z, PACKING).flatten(2).transpose(1, 2),
            "timestep": torch.as_tensor(t, device=z.device).expand(len(z)).to(z.dtype) / self.num_train_timesteps,
            "pooled_projections": cond.pooled,
            "encoder_hidden_states": cond.states,
            "txt_ids": torch.zeros(cond.states.shape[1], 3, device=z.device, dtype=z.dtype),
            "img_ids": _image_positions(height, width, z),
            "return_dict": False,
        }
        if self.reads_guidance:
            scale = cond if cond.guidance is not None else cond.with_guidance(DEFAULT_GUIDANCE_SCALE)
            inputs["guidance"] = scale.guidance
        value = call_with_params(self.transformer, params or {}, **inputs)[0]
        unpacked = pixel_shuffle(value.transpose(1, 2).unflatten(2, (height, width)), PACKING)
        return self.flow_prediction(unpacked, z, t)


def _image_positions(height: int, width: int, like: Tensor) -> Tensor:
    """Returns the coordinates (0, row, column) of image tokens for the rotary embedding, ``(height * width, 3)``."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).flatten(0, 1).to(like.device, like.dtype)
