"""What the adapters of flow models share: a transformer as the denoiser, T5 beside CLIP, an autoencoder."""

from __future__ import annotations

from typing import Any

from torch import nn

from .float32_weights import WeightSource
from .flow_pipeline import validate_flow_pipeline
from .flow_sampling import FlowSampler, check_flow_scheduler
from .guidance_hooks import GuidanceEdit, LatentEdit
from .module_checks import check_trainable_weights
from .parameter_groups import ParameterGroup, select_parameters
from .pipeline_parts import PipelineParts
from .prompt_encoder import check_same_vocabulary, set_end_of_text
from .protocol import Conditioning
from .text_encoder import TextEncoder


class FlowModel(PipelineParts, FlowSampler):
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
        self.latent_edits: list[LatentEdit] = []
        self.freeze()

    @property
    def image_size(self) -> int:
        """Height and width of an image in pixels."""
        return self.latent_shape[-1] * self.vae_scale_factor

    def unconditional(self, count: int) -> Conditioning:
        """Returns ``count`` rows of the empty prompt's conditioning."""
        return self.encode([""] * count)

    def parameter_group(self, role: str) -> ParameterGroup:
        """Returns the parameters of a role, such as ``reads_text`` (see `efface.models.parameter_roles`).

        Raises:
            EffaceError: no such role, or the weights are offloaded, quantized or have adapter layers.
        """
        check_trainable_weights(self.components)
        return select_parameters(self.components, role)
