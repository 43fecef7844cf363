"""Names the kinds of diffusion model that efface does not support, by what their configuration or tensors show."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from efface.core.errors import EffaceError

LATENT_CHANNELS = 4
"""Channels of the latents of Stable Diffusion 1, 2 and XL, which a text-to-image denoiser reads."""
_KINDS_BY_CHANNELS = {
    5: "a depth-conditioned model",
    7: "an upscaler",
    8: "an image-editing model (InstructPix2Pix)",
    9: "an inpainting model",
}
_TEXT_TO_IMAGE = "give a text-to-image model, such as the one that it was trained from"
_KINDS_BY_TENSOR = {
    "conditioner.embedders.0.model.text_projection": "SDXL's refiner",
    "edm_mean": "a model with EDM's noise levels (Playground 2.5)",
    "edm_vpred.sigma_max": "a model with EDM's noise levels (CosXL)",
    "low_scale_model.": "an upscaler",
    "depth_model.": "a depth-conditioned model",
    "noise_augmentor.": "an image-variation model (unCLIP)",
    "control_model.": "a ControlNet",
    "control_net.": "a ControlNet",
}
"""Tensors, or prefixes of tensors (with a full stop at the end), that only one kind of checkpoint has."""


def check_latent_channels(channels: int, where: str, latent_channels: int = LATENT_CHANNELS) -> None:
    """Checks that a denoiser reads latents and nothing else.

    Args:
        channels: channels that the denoiser reads.
        where: the folder, file or pipeline, for the message.
        latent_channels: channels of the autoencoder's latents.

    Raises:
        EffaceError: it reads more or fewer channels; the message names the kind of model where it is known.
    """
    if channels != latent_channels:
        kind = _KINDS_BY_CHANNELS.get(channels, "another kind of model")
        raise EffaceError(
            f"{where} is {kind}, which is not supported: its unet reads {channels} channels, "
            f"not the {latent_channels} of the latents; {_TEXT_TO_IMAGE}"
        )


def check_unet_config(config: Any, where: str, latent_channels: int = LATENT_CHANNELS) -> None:
    """Checks that a UNet's configuration is a text-to-image model's without further conditions.

    Args:
        config: the UNet's configuration, a mapping.
        where: the folder, file or pipeline, for the message.
        latent_channels: channels of the autoencoder's latents.

    Raises:
        EffaceError: the UNet reads other channels, or a condition that efface does not give it.
    """
    if not hasattr(config, "get"):
        raise EffaceError(f"{where} has a unet whose config.json is no mapping: save the whole pipeline again")
    check_latent_channels(int(config.get("in_channels") or LATENT_CHANNELS), where, latent_channels)
    if config.get("time_cond_proj_dim"):
        raise EffaceError(
            f"{where} is guidance-distilled (its unet has a guidance embedding, time_cond_proj_dim), as LCM is, which "
            "is not supported: give the model that it was distilled from"
        )
    condition = config.get("encoder_hid_dim_type") or config.get("class_embed_type") or config.get("num_class_embeds")
    if condition:
        raise EffaceError(
            f"{where} has a unet that is conditioned on more than text ({condition}), which is not supported: "
            f"{_TEXT_TO_IMAGE}"
        )


def check_tensor_names(names: Collection[str], where: str) -> None:
    """Checks that a checkpoint's tensors are not those of a kind that is known and not supported.

    Raises:
        EffaceError: they are; the message names the kind.
    """
    for mark, kind in _KINDS_BY_TENSOR.items():
        if any(name.startswith(mark) for name in names) if mark.endswith(".") else mark in names:
            raise EffaceError(f"{where} is {kind}, which is not supported: {_TEXT_TO_IMAGE}")
