"""A pipeline's tensors in the layout of Stable Diffusion's original checkpoints."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from efface.core.errors import EffaceError
from efface.models.names import canonical_state

from .original import CLIP, CLIP_XL, openclip_tensors, unet_tensors, vae_tensors


def original_tensors(pipe: Any) -> dict[str, Tensor]:
    """Every tensor of a Stable Diffusion 1 or SDXL pipeline by its original name; the pipeline's own tensors where no copy is needed.

    Raises:
        EffaceError: an architecture that has no such layout.
    """
    second = getattr(pipe, "text_encoder_2", None)
    if second is None and pipe.unet.config.use_linear_projection:
        raise EffaceError("the single file is written for Stable Diffusion 1 and XL, this looks like 2: export it as diffusers")
    first = {(CLIP if second is None else CLIP_XL) + name: tensor for name, tensor in canonical_state(pipe.text_encoder).items()}
    more = {} if second is None else openclip_tensors(canonical_state(second))
    parts = (unet_tensors(pipe.unet), vae_tensors(pipe.vae), first, more)
    found = {name: tensor for part in parts for name, tensor in part.items()}
    if len(found) < sum(map(len, parts)):
        raise EffaceError("two tensors of this model have one name in the original layout: export it as diffusers")
    return found
