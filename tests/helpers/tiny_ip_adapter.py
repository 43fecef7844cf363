"""A tiny IP-Adapter for a tiny model, in the files that users have."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from efface.models.stable_diffusion import StableDiffusionModel

EMBEDDING, NUM_TOKENS = 12, 4


def tiny_ip_adapter(folder: Path, model: StableDiffusionModel) -> Path:
    """Writes random weights that fit a model's UNet; returns the folder."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    width = model.unet.config.cross_attention_dim

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.3

    tensors = {
        "image_proj.proj.weight": random(NUM_TOKENS * width, EMBEDDING),
        "image_proj.proj.bias": random(NUM_TOKENS * width),
        "image_proj.norm.weight": torch.ones(width),
        "image_proj.norm.bias": torch.zeros(width),
    }
    for number, name in enumerate(model.unet.attn_processors):  # self-attention has the even numbers
        if "attn2" in name:
            attention = model.unet.get_submodule(name.removesuffix(".processor"))
            for projection in ("to_k", "to_v"):
                rows = getattr(attention, projection).out_features
                tensors[f"ip_adapter.{number}.{projection}_ip.weight"] = random(rows, width)
    save_file(tensors, folder / "ip-adapter_tiny.safetensors")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = CLIPVisionConfig(
            hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16,
            patch_size=8, projection_dim=EMBEDDING,
        )  # fmt: skip
        CLIPVisionModelWithProjection(config).save_pretrained(folder / "image_encoder")
    return folder
