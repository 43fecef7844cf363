"""A pipeline's tensors in the layout of Stable Diffusion's original checkpoints."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from efface.core.errors import EffaceError
from efface.models.tensor_names import canonical_state

from .original_layout import CLIP, CLIP_XL, OPENCLIP, openclip_tensors, unet_tensors, vae_tensors, with_last_layer


def original_tensors(pipe: Any) -> dict[str, Tensor]:
    """Every tensor of a Stable Diffusion 1, 2 or XL pipeline by its original name; the pipeline's own tensors where no copy is needed.

    Raises:
        EffaceError: an architecture that has no such layout.
    """
    parts = (unet_tensors(pipe.unet), vae_tensors(pipe.vae), *_text(pipe))
    found = {name: tensor for part in parts for name, tensor in part.items()}
    if len(found) < sum(map(len, parts)):
        raise EffaceError("two tensors of this model have one name in the original layout: export it as diffusers")
    return found


def metadata_of(pipe: Any) -> dict[str, str]:
    """What the file says of itself: its names do not tell what the denoiser predicts (https://github.com/Stability-AI/ModelSpec)."""
    kinds = {"epsilon": "epsilon", "v_prediction": "v"}
    kind = kinds.get(str(pipe.scheduler.config.get("prediction_type", "epsilon")))
    return {"modelspec.prediction_type": kind} if kind else {}


def _text(pipe: Any) -> list[dict[str, Tensor]]:
    """The text encoders: OpenAI's, Stable Diffusion 2's OpenCLIP, or SDXL's two."""
    first, second = canonical_state(pipe.text_encoder), getattr(pipe, "text_encoder_2", None)
    if second is not None:
        return [{CLIP_XL + name: tensor for name, tensor in first.items()}, openclip_tensors(canonical_state(second))]
    if pipe.unet.config.use_linear_projection:
        return [with_last_layer(openclip_tensors(first, OPENCLIP))]
    return [{CLIP + name: tensor for name, tensor in first.items()}]
