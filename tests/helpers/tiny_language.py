"""Language models with random weights and a word-level tokenizer, small enough to build in a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
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


def write_autoencoder(folder: Path, model: CausalLM, layer: int, site: str, **changes: Any) -> Path:
    """Writes an autoencoder with random weights in the layout of SAELens; returns its folder."""
    width, size = model.neuron_outputs(layer).shape[-1], 32
    generator = torch.Generator().manual_seed(layer)
    decoder = torch.nn.functional.normalize(torch.randn(size, width, generator=generator), dim=-1)
    tensors = {"W_enc": decoder.T.contiguous(), "b_enc": torch.zeros(size), "W_dec": decoder}
    tensors |= {"b_dec": torch.zeros(width), "threshold": torch.full((size,), 0.5)}
    config = {"architecture": "jumprelu", "normalize_activations": "layer_norm", "apply_b_dec_to_input": True}
    config["metadata"] = {"hook_name": f"blocks.{layer}.hook_{site}"}  # type: ignore[assignment]
    own = folder / f"{site}-{layer}"
    own.mkdir(parents=True)
    (own / "cfg.json").write_text(json.dumps({**config, **changes}))
    save_file(tensors, own / "sae_weights.safetensors")
    return own
