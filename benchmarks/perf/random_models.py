"""Models of Stable Diffusion 1.5's or XL's shape with random weights, or much narrower ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from efface.models import loading
from efface.models.clip_tokenizer import clip_tokenizer

ORIGINAL = Path(loading.__file__).parent / "data" / "original"
NARROW_VAE = {"block_out_channels": [8, 16, 16, 16], "norm_num_groups": 4, "sample_size": 64}
NARROW_TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
NARROW: dict[str, dict[str, dict[str, Any]]] = {
    "sd1": {
        "unet": {
            "block_out_channels": [32, 64, 64, 64], "norm_num_groups": 8, "sample_size": 8, "cross_attention_dim": 32,
        },
        "text_encoder": NARROW_TEXT, "vae": NARROW_VAE,
    },
    "sdxl": {
        "unet": {
            "block_out_channels": [32, 64, 64], "norm_num_groups": 8, "sample_size": 8, "cross_attention_dim": 64,
            "attention_head_dim": [2, 4, 4], "transformer_layers_per_block": [1, 1, 2],
            "projection_class_embeddings_input_dim": 6 * 256 + 32,
        },
        "text_encoder": NARROW_TEXT, "vae": NARROW_VAE,
        "text_encoder_2": NARROW_TEXT | {"num_hidden_layers": 3, "projection_dim": 32},
    },
}  # fmt: skip
"""By family and component, the changes to the configuration that make the narrow model."""


def random_pipeline(device: torch.device, dtype: torch.dtype, tiny: bool, family: str = "sd1") -> Any:
    """Stable Diffusion 1.5 or XL, or a much narrower model, with randomly initialised weights."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

    folder, changes = ORIGINAL / family, NARROW[family] if tiny else {}
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with device:
            parts = {
                name: build_component(component_class, folder / name, changes.get(name, {}))
                for name, component_class in component_classes(folder).items()
            }
    finally:
        torch.set_default_dtype(torch.float32)
    rest = {"tokenizer": clip_tokenizer(), "scheduler": DDIMScheduler.from_pretrained(folder / "scheduler")}
    if family == "sdxl":
        return StableDiffusionXLPipeline(**parts, **rest, tokenizer_2=clip_tokenizer("!"), add_watermarker=False)
    absent = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return StableDiffusionPipeline(**parts, **rest, **absent)


def component_classes(folder: Path) -> dict[str, Any]:
    """Classes of the components that a configuration folder has."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    classes = {
        "unet": UNet2DConditionModel,
        "vae": AutoencoderKL,
        "text_encoder": CLIPTextModel,
        "text_encoder_2": CLIPTextModelWithProjection,
    }
    return {name: component_class for name, component_class in classes.items() if (folder / name).is_dir()}


def build_component(component_class: Any, folder: Path, changes: dict[str, Any]) -> Any:
    """A component of a folder's configuration with some changed values."""
    if hasattr(component_class, "load_config"):
        return component_class.from_config(component_class.load_config(folder) | changes)
    config = component_class.config_class.from_pretrained(folder)
    config.update(changes)
    return component_class(config)
