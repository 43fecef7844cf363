"""FLUX.1-dev and SD3 for `full_size_flow.py`: parameters counted at the true size, and models with random weights."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from efface.models.builder import wrap_pipeline
from efface.models.clip_tokenizer import clip_tokenizer
from efface.models.model_ref import bundled_folder

FLUX: dict[str, Any] = {"guidance_embeds": True}
SD3: dict[str, Any] = {
    "sample_size": 128, "num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536,
    "pos_embed_max_size": 192,
}  # fmt: skip
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
T5_XXL = {"vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
PROJECTED = {"vocab_size": 49408, "projection_dim": 768}
MODULES = {"flux": ["add_q_proj", "add_k_proj"], "sd3": ["add_q_proj", "add_k_proj"]}
"""Layers of the role ``text_stream_qk``, by their last names."""


def parameter_counts(family: str) -> dict[str, int]:
    """Parameters of every component at its true size, counted on the meta device."""
    t5 = T5Config(feed_forward_proj="gated-gelu", **T5_XXL)
    clip_l = CLIPTextConfig(**CLIP_L, **PROJECTED)
    clip_g = CLIPTextConfig(**CLIP_G, **{**PROJECTED, "projection_dim": 1280})
    with torch.device("meta"):
        if family == "flux":
            parts: dict[str, Any] = {
                "transformer": FluxTransformer2DModel(**FLUX), "text_encoder": CLIPTextModel(clip_l),
                "text_encoder_2": T5EncoderModel(t5),
            }  # fmt: skip
        else:
            parts = {
                "transformer": SD3Transformer2DModel(**SD3), "text_encoder": CLIPTextModelWithProjection(clip_l),
                "text_encoder_2": CLIPTextModelWithProjection(clip_g), "text_encoder_3": T5EncoderModel(t5),
            }  # fmt: skip
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}


def lora_parameters(family: str, rank: int) -> int:
    """Parameters of EraseAnything's LoRA at the true size."""
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(**FLUX) if family == "flux" else SD3Transformer2DModel(**SD3)
    layers = [m for name, m in transformer.named_modules() if name.rpartition(".")[2] in MODULES[family]]
    return sum(rank * (layer.in_features + layer.out_features) for layer in layers)


def memory(family: str, rank: int) -> dict[str, float]:
    """Counted GB of weights by precision, and of the LoRA with gradient and both moments of AdamW in float32."""
    counts = parameter_counts(family)
    total = sum(counts.values()) / 1e9
    return {
        "weights_bfloat16": 2 * total,
        "weights_4bit": total / 2,
        "transformer_bfloat16": 2 * counts["transformer"] / 1e9,
        "transformer_4bit": counts["transformer"] / 2e9,
        "lora_with_optimizer": 16 * lora_parameters(family, rank) / 1e9,
    }


def random_flow_model(family: str, blocks: int, pixels: int, device: torch.device, dtype: torch.dtype) -> Any:
    """A model of the true width with random weights; ``blocks`` of each kind, 0 for all."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(bundled_folder("pocket-flow") / "tokenizer_2")
    tokenizer.model_max_length = 512
    narrow_t5 = T5Config(
        vocab_size=len(tokenizer), d_model=4096, d_kv=16, d_ff=64, num_layers=1, num_heads=2,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    few = {"num_layers": blocks, "num_single_layers": blocks} if family == "flux" else {"num_layers": blocks}
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with device:
            vae = AutoencoderKL(block_out_channels=(8,) * 4, norm_num_groups=4, latent_channels=16, sample_size=pixels,
                                down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
                                scaling_factor=0.36, shift_factor=0.1)  # fmt: skip
            t5, clip = T5EncoderModel(narrow_t5), CLIPTextConfig(**{**CLIP_L, "num_hidden_layers": 2}, **PROJECTED)
            rest = {"vae": vae, "tokenizer": clip_tokenizer(), "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0)}
            if family == "flux":
                transformer: Any = FluxTransformer2DModel(**FLUX | (few if blocks else {}))
                pipe: Any = FluxPipeline(
                    transformer=transformer, text_encoder=CLIPTextModel(clip), text_encoder_2=t5, tokenizer_2=tokenizer,
                    **rest,
                )  # fmt: skip
            else:
                big = CLIPTextConfig(**{**CLIP_G, "num_hidden_layers": 2}, **{**PROJECTED, "projection_dim": 1280})
                transformer = SD3Transformer2DModel(**SD3 | (few if blocks else {}) | {"sample_size": pixels // 8})
                encoders = (CLIPTextModelWithProjection(clip), CLIPTextModelWithProjection(big))
                pipe = StableDiffusion3Pipeline(
                    transformer=transformer, text_encoder=encoders[0], text_encoder_2=encoders[1], text_encoder_3=t5,
                    tokenizer_2=clip_tokenizer("!"), tokenizer_3=tokenizer, **rest,
                )  # fmt: skip
    finally:
        torch.set_default_dtype(torch.float32)
    return wrap_pipeline(pipe, f"random-{family}")
