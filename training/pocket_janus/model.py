"""The shape of pocket-janus: Janus with a small Llama and an image tokenizer of 8 x 8 tokens."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusVisionConfig,
    JanusVQVAEConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from pocket_janus.image_tokens import NUM_CODES, SIDE, principal_components

WIDTH, LAYERS, MLP_WIDTH, HEADS = 160, 4, 416, 5
CODE_WIDTH = 16
ROPE_THETA = 50.0
"""Small, because a caption and an image together are some 80 tokens long and every position must be told apart."""
HEAD_SCALE = 0.25
GUIDANCE_SCALE = 1.5


def build_config(tokenizer: PreTrainedTokenizerFast) -> JanusConfig:
    """Returns the configuration; vision tower and VQ-VAE are the smallest possible, because neither is used."""
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=MLP_WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=256,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = JanusVisionConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=64, patch_size=8, mlp_ratio=2.0,
        projection_dim=WIDTH, depth=1, num_image_tokens=SIDE * SIDE,
    )  # fmt: skip
    image = JanusVQVAEConfig(
        embed_dim=CODE_WIDTH, num_embeddings=NUM_CODES, latent_channels=4, base_channels=32, channel_multiplier=[1],
        num_res_blocks=1, projection_dim=WIDTH, num_hidden_layers=2, image_token_embed_dim=WIDTH,
    )  # fmt: skip
    image_token_id = tokenizer.convert_tokens_to_ids(tokenizer.image_token)
    return JanusConfig(text_config=text, vision_config=vision, vq_config=image, image_token_id=image_token_id)


def build_model(tokenizer: PreTrainedTokenizerFast, codebook: Tensor, seed: int) -> JanusForConditionalGeneration:
    """Returns the untrained model.

    Embeddings and rows of the head start as the codes' standardized principal components, so that similar patches are
    similar tokens from the first step on.
    """
    torch.manual_seed(seed)
    model = JanusForConditionalGeneration(build_config(tokenizer)).float()
    codes = principal_components(codebook, CODE_WIDTH)
    codes = codes / codes.std(0)
    with torch.no_grad():
        model.model.generation_embeddings.weight.copy_(codes)
        rotation = torch.nn.init.orthogonal_(torch.empty(CODE_WIDTH, WIDTH))
        model.model.generation_head.vision_head.weight.copy_(HEAD_SCALE * codes @ rotation)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        guidance_scale=GUIDANCE_SCALE,
        do_sample=True,
        generation_kwargs={"boi_token_id": tokenizer.convert_tokens_to_ids(tokenizer.boi_token)},
    )
    return model
