"""A Sana pipeline with random weights, small enough to build in a test."""

from __future__ import annotations

import string
from typing import Any

import torch
from diffusers import AutoencoderDC, FlowMatchEulerDiscreteScheduler, SanaPipeline, SanaTransformer2DModel
from helpers.tiny_flow import WORDS
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import Gemma2Config, Gemma2Model, PreTrainedTokenizerFast

from efface.models.builder import wrap_pipeline
from efface.models.sana import SanaModel

WIDTH, LENGTH = 24, 20


def tiny_gemma_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of a few words and of letters, with a begin of text and no end, as Gemma's."""
    pieces = [("<pad>", 0.0), ("<eos>", 0.0), ("<bos>", 0.0), ("<unk>", 0.0)]
    pieces += [(f"▁{word}", -1.0) for word in WORDS] + [(letter, -5.0) for letter in (*string.ascii_lowercase, "▁")]
    raw = Tokenizer(models.Unigram(pieces, unk_id=3))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    raw.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    raw.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    special = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, model_max_length=LENGTH, model_input_names=["input_ids", "attention_mask"], **special
    )


def tiny_sana_pipe(seed: int = 0, scheduler: Any = None) -> SanaPipeline:
    """A tiny Sana of 32 x 32 pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = tiny_gemma_tokenizer()
        sizes = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = Gemma2Config(vocab_size=len(tokenizer), head_dim=12, num_key_value_heads=1, pad_token_id=0, **sizes)
        vae = AutoencoderDC(
            latent_channels=4,
            encoder_block_types=("ResBlock", "ResBlock"),
            decoder_block_types=("ResBlock", "ResBlock"),
            encoder_block_out_channels=(8, 16),
            decoder_block_out_channels=(8, 16),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            encoder_qkv_multiscales=((), ()),
            decoder_qkv_multiscales=((), ()),
            scaling_factor=0.4,
        )
        transformer = SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=4,
            attention_head_dim=8,
            num_layers=2,
            num_cross_attention_heads=4,
            cross_attention_head_dim=8,
            cross_attention_dim=32,
            caption_channels=WIDTH,
            sample_size=16,
        )
        encoder = Gemma2Model(config)
    scheduler = scheduler or FlowMatchEulerDiscreteScheduler(shift=3.0)
    return SanaPipeline(tokenizer, encoder, vae, transformer, scheduler)


def tiny_sana(seed: int = 0) -> SanaModel:
    """A tiny Sana behind the model protocol."""
    model = wrap_pipeline(tiny_sana_pipe(seed), "tiny-sana")
    assert isinstance(model, SanaModel)
    return model
