"""FLUX and SD3 pipelines with random weights, small enough to build in a test."""

from __future__ import annotations

import string
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
from helpers.tiny import EOS, text_config, tiny_text, tiny_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import CLIPTextModelWithProjection, PreTrainedTokenizerFast, T5Config, T5EncoderModel

from efface.models.builder import wrap_pipeline
from efface.models.flux import FluxModel
from efface.models.sd3 import SD3Model

T5_WIDTH, T5_LENGTH = 40, 20
WORDS = ("a", "and", "cat", "dog", "gun", "of", "photo", "the")


def tiny_t5_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of a few words and of letters, with T5's special tokens and no begin of text."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(f"▁{word}", -1.0) for word in WORDS] + [(letter, -5.0) for letter in (*string.ascii_lowercase, "▁")]
    raw = Tokenizer(models.Unigram(pieces, unk_id=2))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    raw.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=raw, model_max_length=T5_LENGTH, **special)


def tiny_t5(tokenizer: PreTrainedTokenizerFast) -> T5EncoderModel:
    sizes = {"d_model": T5_WIDTH, "d_kv": 10, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    return T5EncoderModel(T5Config(vocab_size=len(tokenizer), feed_forward_proj="gated-gelu", **sizes))


def tiny_flow_vae(channels: int = 4) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=16,
        latent_channels=channels,
        scaling_factor=0.7,
        shift_factor=0.1,
    )


def tiny_flux_pipe(seed: int = 0, guidance: bool = True, **scheduler: Any) -> FluxPipeline:
    """A tiny FLUX.1-dev, or FLUX.1-schnell without guidance, with dynamic shifting."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        clip, t5 = tiny_tokenizer(), tiny_t5_tokenizer()
        transformer = FluxTransformer2DModel(
            in_channels=16,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=T5_WIDTH,
            pooled_projection_dim=32,
            guidance_embeds=guidance,
            axes_dims_rope=(4, 6, 6),
        )
        parts = {"vae": tiny_flow_vae(), "text_encoder": tiny_text(clip), "text_encoder_2": tiny_t5(t5)}
    settings = {"use_dynamic_shifting": True, "base_image_seq_len": 4, "max_image_seq_len": 64, **scheduler}
    return FluxPipeline(
        **parts,
        transformer=transformer,
        tokenizer=clip,
        tokenizer_2=t5,
        scheduler=FlowMatchEulerDiscreteScheduler(**settings),
    )


def tiny_sd3_pipe(seed: int = 0, t5: bool = True, **scheduler: Any) -> StableDiffusion3Pipeline:
    """A tiny SD3 with or without T5; its two CLIP encoders have different widths and padding."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        one, two, three = tiny_tokenizer(EOS, ("!",)), tiny_tokenizer("!", ("!",)), tiny_t5_tokenizer()
        sizes = {"hidden_size": 16, "num_hidden_layers": 3, "hidden_act": "gelu", "projection_dim": 12}
        transformer = SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=T5_WIDTH,
            caption_projection_dim=32,
            pooled_projection_dim=12 + 12,
            out_channels=4,
            pos_embed_max_size=8,
            dual_attention_layers=(0,),
            qk_norm="rms_norm",
        )
        parts = {
            "vae": tiny_flow_vae(),
            "text_encoder": CLIPTextModelWithProjection(text_config(one, hidden_size=24, projection_dim=12)),
            "text_encoder_2": CLIPTextModelWithProjection(text_config(two, **sizes)),
            "text_encoder_3": tiny_t5(three) if t5 else None,
        }
    return StableDiffusion3Pipeline(
        **parts,
        transformer=transformer,
        tokenizer=one,
        tokenizer_2=two,
        tokenizer_3=three if t5 else None,
        scheduler=FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **scheduler}),
    )


FLOW_PIPES = {"flux": tiny_flux_pipe, "sd3": tiny_sd3_pipe}
FAMILIES = tuple(FLOW_PIPES)
PROMPTS = ["a photo of a gun", "a cat and a dog"]
"""Prompts of the tiny models' vocabulary."""


def tiny_flow_of(family: str, seed: int = 0) -> FluxModel | SD3Model:
    """A tiny flow model of a family."""
    model = wrap_pipeline(FLOW_PIPES[family](seed), f"tiny-{family}")
    assert isinstance(model, FluxModel | SD3Model)
    return model
