"""Tensors of a pipeline in the layout of Stable Diffusion's original checkpoints."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from efface.core.errors import EffaceError
from efface.models.tensor_names import canonical_state

from .original_layout import CLIP, CLIP_XL, OPENCLIP, add_last_layer, openclip_tensors, unet_tensors, vae_tensors


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


def checkpoint_metadata(pipe: Any) -> dict[str, str]:
    """Metadata of the file: the denoiser's prediction type (https://github.com/Stability-AI/ModelSpec).

    Loaders cannot infer the prediction type from the tensor names.
    """
    names = {"epsilon": "epsilon", "v_prediction": "v"}
    prediction_type = names.get(str(pipe.scheduler.config.get("prediction_type", "epsilon")))
    return {"modelspec.prediction_type": prediction_type} if prediction_type else {}


def _text_encoder_tensors(pipe: Any) -> list[dict[str, Tensor]]:
    """Tensors of each text encoder: OpenAI's CLIP, Stable Diffusion 2's OpenCLIP, or SDXL's two."""
    first, second = canonical_state(pipe.text_encoder), getattr(pipe, "text_encoder_2", None)
    if second is not None:
        return [{CLIP_XL + name: tensor for name, tensor in first.items()}, openclip_tensors(canonical_state(second))]
    if pipe.unet.config.use_linear_projection:
        return [add_last_layer(openclip_tensors(first, OPENCLIP))]
    return [{CLIP + name: tensor for name, tensor in first.items()}]
