"""The adapter for Stable Diffusion 3 and 3.5: two CLIP text encoders, T5 or none, a transformer, flow matching."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .float32_weights import WeightSource
from .flow_model import FlowModel
from .flow_prompt_encoder import SD3PromptEncoder
from .parameter_groups import call_with_params
from .patched_latents import PatchedLatents
from .protocol import Conditioning, Params, Prediction

T5_LENGTH = 256
"""Number of T5 tokens of a prompt: the pipeline's default."""


class SD3Model(SD3PromptEncoder, PatchedLatents, FlowModel):
    """A diffusers ``StableDiffusion3Pipeline`` behind the model protocol.

    Args:
        pipe: the pipeline; its components are used in place, never copied. ``text_encoder_3`` may be None.
        name: the model's name in results.
        weight_source: the files that the weights came from; None for a pipeline in memory.

    Raises:
        EffaceError: a component is missing or precisions differ.
    """

    family = "sd3"
    guided_by_pairs = True
    text_tokens_first = False

    def __init__(self, pipe: Any, name: str, weight_source: WeightSource | None = None) -> None:
        super().__init__(pipe, name, weight_source)
        self.max_sequence_length = min(self.t5.tokenizer.model_max_length, T5_LENGTH) if self.t5 else T5_LENGTH
        self.state_width = int(self.transformer.config.joint_attention_dim)

    def predict(self, z: Tensor, t: Tensor | float, cond: Conditioning, *, params: Params | None = None) -> Prediction:
        """Runs the denoiser once.

        Args:
            z: latents, ``(B, C, h, w)``.
            t: timesteps ``1000 sigma``, ``(B,)`` or one for all.
            cond: conditioning of B prompts.
            params: tensors by parameter name that replace the denoiser's own.
        """
        inputs: dict[str, Any] = {
            "hidden_states": z,
            "timestep": torch.as_tensor(t, device=z.device).expand(len(z)),
            "encoder_hidden_states": cond.states,
            "pooled_projections": cond.pooled,
            "return_dict": False,
        }
        value = call_with_params(self.transformer, params or {}, **inputs)[0]
        return self.flow_prediction(value, z, t)
