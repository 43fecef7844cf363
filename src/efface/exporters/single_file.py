"""Tensors of a model in the layout of Stable Diffusion's original checkpoints."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.models.checkpoint_settings import settings_markers
from efface.models.flow_layout import transformer_tensors
from efface.models.original_layout import (
    CLIP,
    CLIP_XL,
    OPENCLIP,
    complete_openclip,
    openclip_tensors,
    unet_tensors,
    vae_tensors,
)
from efface.models.tensor_names import canonical_state

from .weight_fusion import PipelineModel, edited_components


def check_single_file(model: PipelineModel, erasure: Erasure) -> None:
    """Raises `EffaceError` if an erasure edits a component that the model's single file does not hold."""
    edited = [name for name in edited_components(model, erasure) if name != "transformer"]
    if "transformer" in model.components and edited:
        raise EffaceError(
            f"the single file of a flow model holds the transformer; the erasure edits {edited[0]}: export it as "
            "diffusers or component"
        )


def checkpoint_tensors(model: PipelineModel) -> dict[str, Tensor]:
    """Returns everything that a model's checkpoint holds: its tensors by original name, and empty marker tensors.

    Tensors that the model's own checkpoint had and that no component has a place for are written again. The checkpoint
    of a flow model holds the transformer alone.

    Raises:
        EffaceError: The architecture has no original layout.
    """
    if "transformer" in model.components:
        return transformer_tensors(model.components["transformer"])
    dtype = model.pipe.text_encoder.dtype
    unread = {name: tensor.to(dtype) for name, tensor in getattr(model, "unread_tensors", {}).items()}
    markers = {name: torch.zeros(0) for name in settings_markers(model.pipe)}
    return {**original_tensors(model.pipe), **markers, **unread}


def original_tensors(pipe: Any) -> dict[str, Tensor]:
    """Returns the tensors of a Stable Diffusion 1, 2 or XL pipeline by original name, without copies where possible.

    Raises:
        EffaceError: The architecture has no original layout.
    """
    components = (unet_tensors(pipe.unet), vae_tensors(pipe.vae), *_text_encoder_tensors(pipe))
    tensors = {name: tensor for component in components for name, tensor in component.items()}
    if len(tensors) < sum(map(len, components)):
        raise EffaceError("two tensors of this model share a name in the original layout: export it as diffusers")
    return tensors


def _text_encoder_tensors(pipe: Any) -> list[dict[str, Tensor]]:
    """Tensors of each text encoder: OpenAI's CLIP, Stable Diffusion 2's OpenCLIP, or SDXL's two."""
    first, second = canonical_state(pipe.text_encoder), getattr(pipe, "text_encoder_2", None)
    if second is not None:
        return [{CLIP_XL + name: tensor for name, tensor in first.items()}, openclip_tensors(canonical_state(second))]
    if pipe.unet.config.use_linear_projection:
        return [complete_openclip(openclip_tensors(first, OPENCLIP))]
    return [{CLIP + name: tensor for name, tensor in first.items()}]
