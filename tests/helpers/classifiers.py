"""Tiny random classifiers and CLIP models in folders, built from configurations, and images for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from .tiny import CONTEXT, tiny_tokenizer

LABELS = ("church, church building", "tench, Tinca tinca", "crane, bird", "crane, machine", "Cassette player")
PREPROCESS = {
    "size": {"height": 16, "width": 16},
    "resample": 2,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.4],
}


def saved_classifier(folder: Path, kind: str = "vit", preprocess: dict[str, Any] | None = None) -> Any:
    """Saves a random classifier of `LABELS` with the file of its image processor."""
    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "vit":
            sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
            model: Any = ViTForImageClassification(ViTConfig(image_size=16, patch_size=8, **sizes, **labels))
        else:
            config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **labels)
            model = ResNetForImageClassification(config)
        for p in model.parameters():
            torch.nn.init.normal_(p, std=0.5)  # so that images differ in their class
    model.eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESS if preprocess is None else preprocess))
    return model


def saved_clip(folder: Path) -> CLIPModel:
    """Saves a random CLIP model of 8 x 8 images with its tokenizer."""
    tokenizer = tiny_tokenizer()
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": CONTEXT, **sizes, **ids}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIPModel(
            CLIPConfig(text_config=text, vision_config={"image_size": 8, "patch_size": 4, **sizes}, projection_dim=12)
        ).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def random_images(n: int, side: int = 16) -> Tensor:
    """n square images, each of one colour with noise."""
    generator = torch.Generator().manual_seed(0)
    return (
        torch.rand(n, 3, 1, 1, generator=generator) + 0.3 * torch.rand(n, 3, side, side, generator=generator)
    ).clamp(0, 1)
