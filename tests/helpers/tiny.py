"""A Stable Diffusion pipeline small enough to build in a test: random weights, the real classes."""

from __future__ import annotations

import string

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from efface.core.concept import Concept
from efface.core.erasure import Edit, Erasure
from efface.core.spec import RunSpec
from efface.core.tensors import Tensor
from efface.models.unet import UNetModel

WIDTH, CONTEXT, BOS, EOS = 32, 16, "<|startoftext|>", "<|endoftext|>"


def tiny_tokenizer() -> CLIPTokenizer:
    """Letters are tokens; so are cat, dog and gun."""
    merges = [pair for word in ("cat", "dog", "gun") for pair in ((word[0], word[1]), (word[:2], f"{word[2]}</w>"))]
    tokens = [*string.ascii_lowercase, *(f"{a}</w>" for a in string.ascii_lowercase), *("".join(pair) for pair in merges), BOS, EOS]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=merges, model_max_length=CONTEXT)


def tiny_text(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    sizes = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return CLIPTextModel(CLIPTextConfig(vocab_size=len(tokenizer), max_position_embeddings=CONTEXT, **sizes, **ids))


def tiny_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=4,
    )


def tiny_model(seed: int = 0, dtype: torch.dtype = torch.float32, prediction: str = "epsilon") -> UNetModel:
    """The same weights for the same seed, whatever the dtype."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = tiny_tokenizer()
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            sample_size=16,
        )
        parts = {"vae": vae, "text_encoder": tiny_text(tokenizer), "unet": tiny_unet(), "tokenizer": tokenizer}
    pipe = StableDiffusionPipeline(
        **parts,
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type=prediction),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return UNetModel(pipe if dtype == torch.float32 else pipe.to(dtype), "tiny")


def state_bytes(model: UNetModel) -> dict[str, bytes]:
    """Every byte of the model."""
    return {
        f"{component}.{name}": tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        for component, module in model.components.items()
        for name, tensor in module.state_dict().items()
    }


def erasure_of(model: UNetModel, edits: list[Edit], tensors: dict[str, Tensor] | None = None) -> Erasure:
    """An erasure made for this model."""
    return Erasure(RunSpec(model.name, model.fingerprint(), "esd", {}, (Concept("gun"),)), tuple(edits), tensors or {})
