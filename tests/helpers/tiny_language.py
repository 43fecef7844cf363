"""Language models with random weights and a word-level tokenizer, small enough to build in a test."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from efface.models.causal_lm import CausalLM

WORDS = (
    "<pad> <s> </s> <unk> question : answer . ? what is a gun cat dog used for to shoot bark meow steel made of the it"
)


def tiny_language_tokenizer() -> PreTrainedTokenizerFast:
    words = WORDS.split()
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


CONFIGS: dict[str, tuple[type, dict[str, Any]]] = {
    "llama": (LlamaConfig, {"tie_word_embeddings": True}),
    "mistral": (MistralConfig, {}),
    "qwen2": (Qwen2Config, {}),
    "gemma2": (Gemma2Config, {"head_dim": 8}),
}


def tiny_language_model(shape: str = "llama", dtype: torch.dtype = torch.float32) -> CausalLM:
    tokenizer = tiny_language_tokenizer()
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "vocab_size": len(tokenizer)}
    if shape == "gpt2":
        config: Any = GPT2Config(n_embd=16, n_layer=3, n_head=2, n_positions=128, **ids)
    else:
        kind, extra = CONFIGS[shape]
        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
        config = kind(**sizes, num_key_value_heads=2, max_position_embeddings=128, **ids, **extra)
    torch.manual_seed(0)
    return CausalLM(AutoModelForCausalLM.from_config(config).to(dtype), tokenizer, f"tiny-{shape}")
