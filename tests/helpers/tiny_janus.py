"""Janus-type models with random weights and a word-level tokenizer, small enough to build in a test."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    GenerationConfig,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusVisionConfig,
    JanusVQVAEConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from efface.models.janus import JanusModel

START_OF_IMAGE = "<begin_of_image>"
WORDS = f"<pad> <s> </s> <unk> {START_OF_IMAGE} <image> a photo of sketch painting gun cat dog in the snow object"
WIDTH, SIDE, CODES = 16, 4, 24


def tiny_janus_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS.split())}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<pad>", "<s>", "</s>", "<unk>", START_OF_IMAGE, "<image>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        extra_special_tokens={"boi_token": START_OF_IMAGE, "image_token": "<image>"},
    )  # fmt: skip


def tiny_janus_module(seed: int = 0) -> JanusForConditionalGeneration:
    """A model of 4 x 4 image tokens and images of 8 x 8 pixels."""
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    sizes = {"hidden_size": WIDTH, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = LlamaConfig(
        vocab_size=len(WORDS.split()), num_key_value_heads=2, max_position_embeddings=128, **sizes, **ids
    )
    vision = JanusVisionConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=8, patch_size=2, mlp_ratio=2.0,
        projection_dim=WIDTH, depth=1, num_image_tokens=SIDE * SIDE,
    )  # fmt: skip
    image = JanusVQVAEConfig(
        embed_dim=4, num_embeddings=CODES, latent_channels=4, base_channels=32, channel_multiplier=[1, 1],
        num_res_blocks=1, projection_dim=WIDTH, num_hidden_layers=2, image_token_embed_dim=WIDTH,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = JanusConfig(text_config=text, vision_config=vision, vq_config=image, image_token_id=5)
        module = JanusForConditionalGeneration(config).float()
        for parameter in module.parameters():
            parameter.data.add_(torch.randn_like(parameter) * 0.2)  # at their initial scale all logits are alike
    settings = {"guidance_scale": 3.0, "generation_kwargs": {"boi_token_id": 4}}
    module.generation_config = GenerationConfig(**ids, **settings)
    return module.eval()


def tiny_janus(seed: int = 0, dtype: torch.dtype = torch.float32) -> JanusModel:
    return JanusModel(tiny_janus_module(seed).to(dtype), tiny_janus_tokenizer(), "tiny-janus")
