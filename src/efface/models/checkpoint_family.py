"""Tells which Stable Diffusion a checkpoint in the original layout is, by the names and shapes of its tensors."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from pathlib import Path

from efface.core.errors import EffaceError

from .model_kinds import check_latent_channels, check_tensor_names

UNET, VAE = "model.diffusion_model.", "first_stage_model."
TEXT_ENCODER_PREFIXES: dict[str, dict[str, tuple[str, ...]]] = {
    "sd1": {"text_encoder": ("cond_stage_model.transformer.", "cond_stage_model.model.")},
    "sd2": {"text_encoder": ("cond_stage_model.model.", "cond_stage_model.transformer.")},
    "sdxl": {
        "text_encoder": ("conditioner.embedders.0.transformer.",),
        "text_encoder_2": ("conditioner.embedders.1.model.", "conditioner.embedders.1.transformer."),
    },
}
"""Prefixes of each text encoder's tensors, by family and component; a file has one of them."""
_FAMILY_BY_PREFIX = {
    "conditioner.embedders.": "sdxl",
    "cond_stage_model.model.": "sd2",
    "cond_stage_model.transformer.": "sd1",
}
_FIRST_CONVOLUTION = UNET + "input_blocks.0.0.weight"
_SD2_STATE_WIDTH = 1024
_EMA = "model_ema."


def detect_family(shapes: Mapping[str, tuple[int, ...]], path: Path) -> str:
    """Returns ``sd1``, ``sd2`` or ``sdxl``.

    Args:
        shapes: shape by tensor name.
        path: the file, for messages.

    Raises:
        EffaceError: the file is of another kind, such as a LoRA or an inpainting model, or lacks a component.
    """
    if any("lora_" in name or ".lora." in name for name in shapes):
        raise EffaceError(f"{path} is a LoRA, no checkpoint: give the model that it belongs to")
    check_tensor_names(shapes.keys(), str(path))
    if len(shape := shapes.get(_FIRST_CONVOLUTION, ())) == 4:
        check_latent_channels(shape[1], str(path))
    family = _family_by_names(shapes)
    missing = [name for name, prefix in (("unet", UNET), ("vae", VAE)) if not _has_any(shapes, (prefix,))]
    if len(missing) == 2:
        raise EffaceError(
            f"{path} is no checkpoint of Stable Diffusion 1, 2 or XL in the original layout: it has no component of one"
            + _hint(shapes)
        )
    encoders: Mapping[str, tuple[str, ...]] = TEXT_ENCODER_PREFIXES.get(family or "", {"text_encoder": ()})
    missing += [component for component, prefixes in encoders.items() if not _has_any(shapes, prefixes)]
    if missing or family is None:
        raise EffaceError(
            f"{path} has no {', no '.join(missing)}: give a whole checkpoint, or a folder in diffusers layout"
            + _hint(shapes)
        )
    if _has_any(shapes, (_EMA,)):
        warnings.warn(f"{path} holds EMA weights beside the plain ones; read are the plain ones", stacklevel=2)
    return family


def _has_any(names: Collection[str], prefixes: tuple[str, ...]) -> bool:
    return any(name.startswith(prefix) for prefix in prefixes for name in names)


def _family_by_names(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Returns the family by the text encoder's names, and by its width where SD2's has the names of SD1's."""
    family = next((family for prefix, family in _FAMILY_BY_PREFIX.items() if _has_any(shapes, (prefix,))), None)
    widths = {shape[1] for name, shape in shapes.items() if name.endswith(".attn2.to_k.weight") and len(shape) == 2}
    return "sd2" if family == "sd1" and widths == {_SD2_STATE_WIDTH} else family


def _hint(names: Collection[str]) -> str:
    """Returns advice for files that hold other weights than a checkpoint's."""
    if any(name.startswith(("down_blocks.", "encoder.down_blocks.")) for name in names):
        return "; it is one component of a diffusers pipeline: give the pipeline's folder"
    if _has_any(names, (_EMA,)):
        return "; its EMA weights alone are not read"
    return ""
