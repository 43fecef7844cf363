"""Checkpoints in one file, with a tiny pipeline's weights under the names of Stable Diffusion's original code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from efface.models import loading
from efface.models.clip_tokenizer import EOS, clip_tokenizer

UNET = "model.diffusion_model."
SHIPPED = Path(loading.__file__).parent / "data" / "original"
RESNET_NAMES = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
NAMES_OUTSIDE_BLOCKS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
VAE_NAMES = {
    "mid_block.attentions.0": "mid.attn_1",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
}
OPEN_CLIP_NAMES = {
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding": "token_embedding",
    "final_layer_norm": "ln_final",
    "text_projection.weight": "text_projection",
    "encoder.layers": "transformer.resblocks",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "fc1": "c_fc",
    "fc2": "c_proj",
    "self_attn": "attn",
}


def write_original(pipe: Any, path: Path, metadata: dict[str, str] | None = None, **extra_tensors: Tensor) -> Path:
    """Writes the pipeline as one file, with extra tensors."""
    tensors = {f"{UNET}{unet_name(name, pipe.unet)}": t for name, t in pipe.unet.state_dict().items()}
    blocks = len(pipe.vae.config.block_out_channels)
    tensors |= {
        f"first_stage_model.{vae_name(name, blocks)}": vae_tensor(name, t) for name, t in pipe.vae.state_dict().items()
    }
    tensors |= text_tensors(pipe) | extra_tensors
    save_file({name: t.contiguous() for name, t in tensors.items()}, path, metadata)
    return path


def narrow_pipe(family: str) -> Any:
    """A pipeline with every block and layer of a shipped configuration, but narrower."""
    unet = UNet2DConditionModel.load_config(SHIPPED / family / "unet")
    vae = AutoencoderKL.load_config(SHIPPED / family / "vae")
    blocks = len(unet["block_out_channels"])
    unet |= {
        "block_out_channels": [32, 64, 64, 64][:blocks],
        "norm_num_groups": 8,
        "sample_size": 8,
        "cross_attention_dim": 32,
    }
    unet["attention_head_dim"] = 8 if family == "sd1" else [2, 4, 4, 4][:blocks]
    parts: dict[str, Any] = {"text_encoder": _narrow(CLIPTextModel, family, "text_encoder", 32)}
    parts["tokenizer"] = clip_tokenizer("!" if family == "sd2" else EOS)
    if family == "sdxl":
        unet |= {
            "cross_attention_dim": 32 + 24,
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 48 + 20,
        }
        parts["text_encoder_2"] = _narrow(CLIPTextModelWithProjection, family, "text_encoder_2", 24, projection_dim=20)
        parts["tokenizer_2"] = clip_tokenizer("!")
    vae |= {"block_out_channels": [8, 16, 16, 16], "norm_num_groups": 4, "sample_size": 64}
    parts |= {"unet": UNet2DConditionModel.from_config(unet), "vae": AutoencoderKL.from_config(vae)}
    parts["scheduler"] = DDIMScheduler.from_pretrained(SHIPPED / family / "scheduler")
    if family == "sdxl":
        return StableDiffusionXLPipeline(**parts)
    return StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def _narrow(model_class: Any, family: str, name: str, width: int, **settings: int) -> Any:
    config = CLIPTextConfig.from_pretrained(SHIPPED / family / name)
    config.update({"hidden_size": width, "intermediate_size": 2 * width, "num_attention_heads": 2, **settings})
    return model_class(config)


def text_tensors(pipe: Any) -> dict[str, Tensor]:
    """The text encoders' tensors under their original names."""
    first = pipe.text_encoder.state_dict()
    if hasattr(pipe, "text_encoder_2"):
        second = open_clip(pipe.text_encoder_2.state_dict(), "conditioner.embedders.1.model.")
        return {**clip(first, "conditioner.embedders.0.transformer."), **second}
    if pipe.unet.config.use_linear_projection:
        return open_clip(first, "cond_stage_model.model.")
    return clip(first, "cond_stage_model.transformer.")


def unet_name(name: str, unet: Any) -> str:
    """The original name of a UNet's tensor."""
    layers = unet.config.layers_per_block + 1
    for ours, theirs in NAMES_OUTSIDE_BLOCKS.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs, 1)
    block, kind, number, rest = re.fullmatch(r"(\w+_blocks?\.\d+|mid_block)\.(\w+)\.(\d+)\.(.+)", name).groups()
    level = int(block.rpartition(".")[2]) if "." in block else 0
    j = int(number)
    inner = rest
    if kind == "resnets":
        first, *others = rest.split(".")
        inner = ".".join([RESNET_NAMES.get(first, first), *others])
    if block == "mid_block":
        return f"middle_block.{2 * j if kind == 'resnets' else 1}.{inner}"
    if kind == "downsamplers":
        return f"input_blocks.{(level + 1) * layers}.0.op.{rest.removeprefix('conv.')}"
    has_attention = "CrossAttn" in unet.config.up_block_types[level] if block.startswith("up") else False
    if kind == "upsamplers":
        return f"output_blocks.{level * layers + layers - 1}.{2 if has_attention else 1}.{rest}"
    side = (
        f"input_blocks.{1 + level * layers + j}" if block.startswith("down") else f"output_blocks.{level * layers + j}"
    )
    return f"{side}.{0 if kind == 'resnets' else 1}.{inner}"


def vae_name(name: str, blocks: int) -> str:
    """The original name of an autoencoder's tensor."""
    name = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", name)
    name = re.sub(r"up_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"up.{blocks - 1 - int(m[1])}.block.{m[2]}", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{blocks - 1 - int(m[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    for ours, theirs in VAE_NAMES.items():
        name = name.replace(ours, theirs)
    return name


def vae_tensor(name: str, tensor: Tensor) -> Tensor:
    """An autoencoder's tensor in its original shape: projections of attention are 1 x 1 convolutions."""
    return tensor[:, :, None, None] if "attentions" in name and tensor.ndim == 2 else tensor


def clip(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """A CLIP text model's tensors as transformers before version 5 named them."""
    return {f"{prefix}text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in state.items()}


def open_clip(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """A CLIP text model's tensors as OpenCLIP names them, with query, key and value in one tensor."""
    state = {name.removeprefix("text_model."): tensor for name, tensor in state.items()}
    renamed = {}
    for name, tensor in state.items():
        if match := re.fullmatch(r"encoder\.layers\.(\d+)\.self_attn\.q_proj\.(weight|bias)", name):
            parts = [state[name.replace("q_proj", f"{p}_proj")] for p in "qkv"]
            renamed[f"transformer.resblocks.{match[1]}.attn.in_proj_{match[2]}"] = torch.cat(parts)
        elif "k_proj" not in name and "v_proj" not in name:
            renamed[_open_clip_name(name)] = tensor.T if name == "text_projection.weight" else tensor
    return {prefix + name: tensor for name, tensor in renamed.items()}


def _open_clip_name(name: str) -> str:
    for ours, theirs in OPEN_CLIP_NAMES.items():
        name = name.replace(ours, theirs)
    return name
