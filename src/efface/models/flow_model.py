"""What the adapters of flow models share: a transformer as the denoiser, T5 beside CLIP, an autoencoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .fingerprint import fingerprint
from .float32_weights import WeightSource
from .flow_pipeline import validate_flow_pipeline
from .flow_sampling import FlowSampler, check_flow_scheduler
from .guidance_hooks import GuidanceEdit
from .module_checks import check_own_weights
from .parameter_groups import ParameterGroup, select_parameters
from .prompt_encoder import check_same_vocabulary, set_end_of_text
from .protocol import Conditioning
from .text_encoder import TextEncoder


class FlowModel(FlowSampler):
    """A diffusers pipeline of a flow model behind the model protocol; an adapter inherits it.

    Args:
        pipe: the pipeline; its components are used in place, never copied.
        name: the model's name in results.
        weight_source: the files that the weights came from; None for a pipeline in memory.

    Raises:
        EffaceError: the pipeline's class is not supported, a component is missing or precisions differ.

    Attributes:
        text_tokens_first: whether the text tokens come before the image tokens in joint attention.
    """

    text_tokens_first: bool

    def __init__(self, pipe: Any, name: str, weight_source: WeightSource | None = None) -> None:
        self.name = name
        self.weight_source = weight_source
        self.pipe = validate_flow_pipeline(pipe)
        self.transformer = pipe.transformer
        self.vae = pipe.vae
        self.scheduler = check_flow_scheduler(pipe.scheduler)
        self.encoders = tuple(
            TextEncoder(component, getattr(pipe, component.replace("text_encoder", "tokenizer")), module)
            for component in ("text_encoder", "text_encoder_2", "text_encoder_3")
            if (module := getattr(pipe, component, None)) is not None
        )
        self.t5 = self.encoders[-1] if hasattr(self.encoders[-1].module, "shared") else None
        set_end_of_text(check_same_vocabulary(self.encoders[:-1] if self.t5 else self.encoders))
        self.components: dict[str, nn.Module] = {encoder.component: encoder.module for encoder in self.encoders}
        self.components |= {"transformer": self.transformer, "vae": self.vae}
        self.guidance_edits: list[GuidanceEdit] = []
        for module in self.components.values():
            module.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """The device that the model computes on."""
        return torch.device(self.transformer.device)

    @property
    def image_size(self) -> int:
        """Height and width of an image in pixels."""
        return self.latent_shape[-1] * self.vae_scale_factor

    @property
    def num_train_timesteps(self) -> int:
        """Timestep of pure noise."""
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
        """Returns ``count`` rows of the empty prompt's conditioning."""
        return self.encode([""] * count)

    def parameter_group(self, role: str) -> ParameterGroup:
        """Returns the parameters of a role, such as ``reads_text`` (see `efface.models.parameter_roles`).

        Raises:
            EffaceError: no such role, or the weights are offloaded or have adapter layers.
        """
        check_own_weights(self.components)
        return select_parameters(self.components, role)

    def fingerprint(self) -> dict[str, dict[str, Any]]:
        """Returns the fingerprint of every component (see `efface.models.fingerprint`).

        Raises:
            EffaceError: the weights are offloaded or have adapter layers.
        """
        check_own_weights(self.components)
        return {name: fingerprint(module) for name, module in self.components.items()}

    def decode(self, z: Tensor) -> Tensor:
        """Decodes latents ``(B, C, h, w)`` to images ``(B, 3, H, W)`` in [0, 1]."""
        latents = z / self.vae.config.scaling_factor + self._latent_shift
        return (self.vae.decode(latents.to(self.vae.dtype)).sample / 2 + 0.5).clamp(0, 1)

    def encode_image(self, images: Tensor) -> Tensor:
        """Encodes images ``(B, 3, H, W)`` in [0, 1] to latents (the posterior's mean)."""
        latents = self.vae.encode(images.to(self.device, self.vae.dtype) * 2 - 1).latent_dist.mean
        return ((latents - self._latent_shift) * self.vae.config.scaling_factor).to(self.transformer.dtype)

    @property
    def _latent_shift(self) -> float:
        """Mean that the autoencoder's latents have before scaling."""
        return float(self.vae.config.shift_factor or 0.0)
