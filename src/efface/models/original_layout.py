"""Converts tensor names of diffusers and transformers to those of Stable Diffusion's original checkpoints.

The original UNet numbers its blocks consecutively. Block 0 is the first convolution. Each resolution of the encoder has
L residual blocks, with attention beside them if the resolution has any, and one block for the downsampling. Each
resolution of the decoder has L + 1 blocks, the last of which holds the upsampling. The original autoencoder
numbers the resolutions of its decoder from the largest. SDXL's second text encoder is OpenCLIP's, whose attention has
one matrix for query, key and value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from efface.core.errors import EffaceError

UNET, VAE = "model.diffusion_model.", "first_stage_model."
CLIP = "cond_stage_model.transformer.text_model."
OPENCLIP = "cond_stage_model.model."
CLIP_XL, OPENCLIP_XL = "conditioner.embedders.0.transformer.text_model.", "conditioner.embedders.1.model."
OPENCLIP_LAYERS = 24
"""Text encoder layers in Stable Diffusion 2's checkpoint; the denoiser reads layer 23, where diffusers folders end."""
_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
_UNET_TOP = {
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OPENCLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_OPENCLIP_TOP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight", "final_layer_norm.bias": "ln_final.bias",
}  # fmt: skip
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_MID = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")


def unet_name(name: str, layers_per_block: int, has_attention: Callable[[str], bool]) -> str:
    """Returns the original name of a UNet tensor.

    Args:
        name: Name in diffusers.
        layers_per_block: Residual blocks per resolution of the encoder.
        has_attention: Whether a block, such as ``up_blocks.1``, has attention; its upsampling then has index 2, not 1.

    Raises:
        EffaceError: The original layout has no such tensor.
    """
    layer, _, end = name.rpartition(".")
    if layer in _UNET_TOP:
        return f"{UNET}{_UNET_TOP[layer]}.{end}"
    if match := _MID.fullmatch(name):
        kind, rest = match[1], match[3]
        i = int(match[2])
        return f"{UNET}middle_block.{2 * i + (kind == 'attentions')}.{_inner(kind, rest)}"
    match = _BLOCK.fullmatch(name)
    if not match:
        raise EffaceError(f"the original layout has no tensor {name!r}: export it as diffusers")
    direction, kind, rest = match[1], match[3], match[5]
    block, i = int(match[2]), int(match[4])
    step = block * (layers_per_block + 1) + (i if kind in ("resnets", "attentions") else layers_per_block)
    if kind == "downsamplers":
        return f"{UNET}input_blocks.{step + 1}.0.{rest.replace('conv', 'op')}"
    if kind == "upsamplers":
        return f"{UNET}output_blocks.{step}.{2 if has_attention(f'up_blocks.{block}') else 1}.{rest}"
    blocks = f"input_blocks.{step + 1}" if direction == "down" else f"output_blocks.{step}"
    return f"{UNET}{blocks}.{int(kind == 'attentions')}.{_inner(kind, rest)}"


def _inner(kind: str, rest: str) -> str:
    layer, _, end = rest.partition(".")
    return f"{_RESNET[layer]}.{end}" if kind == "resnets" else rest


def vae_name(name: str, resolutions: int) -> str:
    """Returns the original name of an autoencoder tensor; ``resolutions`` is the decoder's number of resolutions."""
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"mid_block\.resnets\.(\d+)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    if "mid_block.attentions." in name:
        before, _, rest = name.partition("mid_block.attentions.0.")
        layer, _, end = rest.rpartition(".")
        return f"{VAE}{before}mid.attn_1.{_ATTENTION[layer]}.{end}"
    name = re.sub(r"up_blocks\.(\d+)", lambda m: f"up.{resolutions - 1 - int(m[1])}", name).replace(
        "down_blocks", "down"
    )
    name = name.replace("resnets", "block").replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")
    return VAE + name


def unet_tensors(unet: Any) -> dict[str, Tensor]:
    """Returns the tensors of a UNet by original name."""
    layers_per_block = unet.config.layers_per_block
    if not isinstance(layers_per_block, int):
        raise EffaceError(
            "the original layout needs the same number of layers in every block of the UNet: export it as diffusers"
        )
    state = unet.state_dict()
    with_attention = {name.partition(".attentions.")[0] for name in state if ".attentions." in name}
    return {unet_name(name, layers_per_block, with_attention.__contains__): tensor for name, tensor in state.items()}


def vae_tensors(vae: Any) -> dict[str, Tensor]:
    """Returns the tensors of an autoencoder by original name, attention matrices as ``(o, i, 1, 1)`` convolutions."""
    resolutions = len(vae.config.up_block_types)
    tensors = {vae_name(name, resolutions): tensor for name, tensor in vae.state_dict().items()}
    return {name: t[:, :, None, None] if ".attn_1." in name and t.ndim == 2 else t for name, t in tensors.items()}


def openclip_tensors(state: Mapping[str, Tensor], prefix: str = OPENCLIP_XL) -> dict[str, Tensor]:
    """Converts the tensors of a CLIP text encoder, by canonical name, to OpenCLIP's names and shapes."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name == "text_projection.weight":
            tensors["text_projection"] = tensor.T
        elif name in _OPENCLIP_TOP:
            tensors[_OPENCLIP_TOP[name]] = tensor
        elif ".self_attn.q_proj." in name:
            rows = [state[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            tensors[_resblock(name.replace("self_attn.q_proj.", "attn.in_proj_"))] = torch.cat(rows)
        elif not re.search(r"\.self_attn\.[kv]_proj\.", name):
            tensors[_resblock(name)] = tensor
    return {prefix + name: tensor for name, tensor in tensors.items()}


def complete_openclip(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Adds the parts of Stable Diffusion 2's published text encoder that no folder holds and the denoiser never reads.

    The last layer is zeros, which adds nothing; the text projection is the identity.
    """
    last = f"{OPENCLIP}transformer.resblocks.{OPENCLIP_LAYERS - 1}."
    before = f"{OPENCLIP}transformer.resblocks.{OPENCLIP_LAYERS - 2}."
    zeros = {
        name.replace(before, last): torch.zeros_like(tensor)
        for name, tensor in tensors.items()
        if name.startswith(before)
    }
    embedding = tensors[f"{OPENCLIP}token_embedding.weight"]
    projection = torch.eye(embedding.shape[1], dtype=embedding.dtype, device=embedding.device)
    return {f"{OPENCLIP}text_projection": projection, **zeros, **tensors}


def _resblock(name: str) -> str:
    name = name.replace("encoder.layers.", "transformer.resblocks.")
    for ours, theirs in _OPENCLIP.items():
        name = name.replace(f".{ours}.", f".{theirs}.")
    return name
