"""Pipelines of Stable Diffusion 1, 2 and XL with random weights, small enough to build in a test."""

from __future__ import annotations

import string
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from efface.core.concept import Concept
from efface.core.erasure import Edit, Erasure
from efface.core.spec import RunSpec
from efface.core.tensors import Tensor
from efface.models.stable_diffusion import StableDiffusionModel

WIDTH, CONTEXT, BOS, EOS = 32, 16, "<|startoftext|>", "<|endoftext|>"
WIDTH_2, POOLED = 24, 20
TEMPLATES = ("a {} x", "my {}", "the {} in a b")
"""A library of templates that fits the tiny models' vocabulary and context."""
"""Width and projected width of SDXL's second text encoder."""


def tiny_tokenizer(pad: str = EOS, first: tuple[str, ...] = ()) -> CLIPTokenizer:
    """A tokenizer of the tokens in ``first``, the letters and the words cat, dog and gun."""
    merges = [pair for word in ("cat", "dog", "gun") for pair in ((word[0], word[1]), (word[:2], f"{word[2]}</w>"))]
    tokens = [
        *first,
        *string.ascii_lowercase,
        *(f"{a}</w>" for a in string.ascii_lowercase),
        *("".join(pair) for pair in merges),
        BOS,
        EOS,
    ]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)}, merges=merges, model_max_length=CONTEXT, pad_token=pad
    )


def tiny_text(tokenizer: CLIPTokenizer, **more: Any) -> CLIPTextModel:
    return CLIPTextModel(text_config(tokenizer, **more))


def text_config(tokenizer: CLIPTokenizer, **more: Any) -> CLIPTextConfig:
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    sizes = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return CLIPTextConfig(vocab_size=len(tokenizer), max_position_embeddings=CONTEXT, **{**sizes, **ids, **more})


def tiny_unet(**more: Any) -> UNet2DConditionModel:
    settings: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
    }
    return UNet2DConditionModel(**{**settings, **more})


def tiny_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=16,
    )


def tiny_pipe(
    seed: int = 0, prediction: str = "epsilon", pad: str = EOS, text: Any = None, unet: Any = None
) -> StableDiffusionPipeline:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = tiny_tokenizer(pad, () if pad == EOS else (pad,))
        parts = {
            "vae": tiny_vae(),
            "text_encoder": tiny_text(tokenizer, **(text or {})),
            "unet": tiny_unet(**(unet or {})),
        }
    return StableDiffusionPipeline(
        **parts,
        tokenizer=tokenizer,
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type=prediction),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def tiny_model(seed: int = 0, dtype: torch.dtype = torch.float32, prediction: str = "epsilon") -> StableDiffusionModel:
    """A tiny Stable Diffusion 1 model; its weights depend on the seed only."""
    pipe = tiny_pipe(seed, prediction)
    return StableDiffusionModel(pipe if dtype == torch.float32 else pipe.to(dtype), "tiny")


def tiny_sd2_pipe(seed: int = 0) -> StableDiffusionPipeline:
    """A tiny Stable Diffusion 2: velocity, linear projections, OpenCLIP's activation, padding with another token."""
    return tiny_pipe(
        seed, "v_prediction", "!", {"hidden_act": "gelu"}, {"use_linear_projection": True, "attention_head_dim": (4, 8)}
    )


def tiny_sdxl_pipe(seed: int = 0, **more: Any) -> StableDiffusionXLPipeline:
    """A tiny SDXL: two text encoders of different widths and depths, additional conditions, Euler's sampler."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        one, two = tiny_tokenizer(EOS, ("!",)), tiny_tokenizer("!", ("!",))
        wide = {"hidden_size": WIDTH_2, "num_hidden_layers": 3, "hidden_act": "gelu", "projection_dim": POOLED}
        unet = tiny_unet(
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2),
            cross_attention_dim=WIDTH + WIDTH_2,
            attention_head_dim=(4, 8),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + POOLED,
        )
        text_2 = CLIPTextModelWithProjection(text_config(two, **wide))
        parts = {"vae": tiny_vae(), "text_encoder": tiny_text(one), "text_encoder_2": text_2, "unet": unet}
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1
    )
    settings = {"scheduler": scheduler, "add_watermarker": False, "force_zeros_for_empty_prompt": True}
    return StableDiffusionXLPipeline(**parts, tokenizer=one, tokenizer_2=two, **{**settings, **more})


PIPES = {"sd1": tiny_pipe, "sd2": tiny_sd2_pipe, "sdxl": tiny_sdxl_pipe}
FAMILIES = tuple(PIPES)
PROMPTS = ["a gun", "a cat and a dog"]
"""Prompts of the tiny models' vocabulary."""


def tiny_of(family: str, seed: int = 0) -> StableDiffusionModel:
    """A tiny model of a family."""
    return StableDiffusionModel(PIPES[family](seed), f"tiny-{family}")


def state_bytes(model: StableDiffusionModel) -> dict[str, bytes]:
    """The bytes of every tensor of the model."""
    return {
        f"{component}.{name}": tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        for component, module in model.components.items()
        for name, tensor in module.state_dict().items()
    }


def erasure_of(model: StableDiffusionModel, edits: list[Edit], tensors: dict[str, Tensor] | None = None) -> Erasure:
    """An erasure with the model as its base."""
    return Erasure(RunSpec(model.name, model.fingerprint(), "esd", {}, (Concept("gun"),)), tuple(edits), tensors or {})
