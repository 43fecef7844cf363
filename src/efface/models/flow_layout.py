"""Layer names of FLUX's and SD3's original checkpoints, which ComfyUI and kohya's files use, too.

The original layers hold some of diffusers' layers one below the other: queries, keys and values, and in FLUX's single
blocks also the first layer of the MLP. They give the shift of the last norms before the scale.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from efface.core.errors import EffaceError

_FLUX_OUTER = {
    "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
    "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
    "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
    "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
    "context_embedder": "txt_in",
    "x_embedder": "img_in",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}
_FLUX_DOUBLE = {
    "norm1.linear": "img_mod.lin",
    "norm1_context.linear": "txt_mod.lin",
    "attn.to_q attn.to_k attn.to_v": "img_attn.qkv",
    "attn.add_q_proj attn.add_k_proj attn.add_v_proj": "txt_attn.qkv",
    "attn.norm_q": "img_attn.norm.query_norm",
    "attn.norm_k": "img_attn.norm.key_norm",
    "attn.norm_added_q": "txt_attn.norm.query_norm",
    "attn.norm_added_k": "txt_attn.norm.key_norm",
    "attn.to_out.0": "img_attn.proj",
    "attn.to_add_out": "txt_attn.proj",
    "ff.net.0.proj": "img_mlp.0",
    "ff.net.2": "img_mlp.2",
    "ff_context.net.0.proj": "txt_mlp.0",
    "ff_context.net.2": "txt_mlp.2",
}
_FLUX_SINGLE = {
    "norm.linear": "modulation.lin",
    "attn.to_q attn.to_k attn.to_v proj_mlp": "linear1",
    "attn.norm_q": "norm.query_norm",
    "attn.norm_k": "norm.key_norm",
    "proj_out": "linear2",
}
_SD3_OUTER = {
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
    "context_embedder": "context_embedder",
    "pos_embed.proj": "x_embedder.proj",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}
_SD3_JOINT = {
    "norm1.linear": "x_block.adaLN_modulation.1",
    "norm1_context.linear": "context_block.adaLN_modulation.1",
    "attn.to_q attn.to_k attn.to_v": "x_block.attn.qkv",
    "attn.add_q_proj attn.add_k_proj attn.add_v_proj": "context_block.attn.qkv",
    "attn2.to_q attn2.to_k attn2.to_v": "x_block.attn2.qkv",
    "attn.norm_q": "x_block.attn.ln_q",
    "attn.norm_k": "x_block.attn.ln_k",
    "attn.norm_added_q": "context_block.attn.ln_q",
    "attn.norm_added_k": "context_block.attn.ln_k",
    "attn2.norm_q": "x_block.attn2.ln_q",
    "attn2.norm_k": "x_block.attn2.ln_k",
    "attn.to_out.0": "x_block.attn.proj",
    "attn2.to_out.0": "x_block.attn2.proj",
    "attn.to_add_out": "context_block.attn.proj",
    "ff.net.0.proj": "x_block.mlp.fc1",
    "ff.net.2": "x_block.mlp.fc2",
    "ff_context.net.0.proj": "context_block.mlp.fc1",
    "ff_context.net.2": "context_block.mlp.fc2",
}
_BLOCKS: dict[str, dict[str, tuple[str, Mapping[str, str]]]] = {
    "FluxTransformer2DModel": {
        "": ("", _FLUX_OUTER),
        "transformer_blocks": ("double_blocks", _FLUX_DOUBLE),
        "single_transformer_blocks": ("single_blocks", _FLUX_SINGLE),
    },
    "SD3Transformer2DModel": {"": ("", _SD3_OUTER), "transformer_blocks": ("joint_blocks", _SD3_JOINT)},
}
"""By the transformer's class and diffusers' name of its blocks: the original name, and the layers' names."""


@dataclass(frozen=True)
class OriginalLayer:
    """The place of a layer in the original checkpoint.

    Attributes:
        name: name of the original layer, such as ``double_blocks.0.img_attn.qkv``.
        parts: diffusers' layers that it holds, from above.
        swaps_halves: whether the halves of its rows are in the other order than in diffusers.
    """

    name: str
    parts: tuple[str, ...]
    swaps_halves: bool


def original_layer(transformer: Any, layer: str) -> OriginalLayer:
    """Returns the place of a layer of FLUX's or SD3's transformer in the original checkpoint.

    Args:
        transformer: the transformer.
        layer: diffusers' name of the layer, such as ``transformer_blocks.0.attn.to_q``.

    Raises:
        EffaceError: the original checkpoint has no such layer.
    """
    block = re.match(r"((?:single_)?transformer_blocks)\.(\d+)\.", layer)
    blocks, number = (block[1], block[2]) if block else ("", "")
    prefix = block[0] if block else ""
    original_blocks, names = _BLOCKS.get(type(transformer).__name__, {}).get(blocks, ("", {}))
    for parts, name in names.items():
        paths = tuple(prefix + part for part in parts.split())
        if layer in paths:
            original = f"{original_blocks}.{number}.{name}" if block else name
            return OriginalLayer(
                original, paths, layer == "norm_out.linear" or _is_last_context_norm(transformer, layer)
            )
    raise EffaceError(f"{type(transformer).__name__} has no layer {layer!r} in the original layout: use diffusers'")


def _is_last_context_norm(transformer: Any, layer: str) -> bool:
    """Whether a layer is the text norm of SD3's last block, which has a scale and a shift only."""
    is_sd3 = type(transformer).__name__ == "SD3Transformer2DModel"
    return is_sd3 and layer == f"transformer_blocks.{transformer.config.num_layers - 1}.norm1_context.linear"


def swap_halves(tensor: Tensor) -> Tensor:
    """Returns a tensor with the second half of its rows first."""
    first, second = tensor.chunk(2)
    return torch.cat([second, first])


def transformer_tensors(transformer: Any) -> dict[str, Tensor]:
    """Returns the tensors of FLUX's or SD3's transformer by their names in the original checkpoint.

    Raises:
        EffaceError: the original checkpoint has no such tensor.
    """
    state, tensors = dict(transformer.state_dict()), {}
    if "pos_embed.pos_embed" in state:
        tensors["pos_embed"] = state.pop("pos_embed.pos_embed")
    for name in state:
        layer, _, kind = name.rpartition(".")
        place = original_layer(transformer, layer)
        if layer != place.parts[0]:
            continue
        tensor = torch.cat([state[f"{part}.{kind}"] for part in place.parts])
        is_scale = place.name.endswith(("query_norm", "key_norm"))
        key = f"{place.name}.{'scale' if is_scale else kind}"
        tensors[key] = swap_halves(tensor) if place.swaps_halves else tensor
    return tensors


def diffusers_tensors(transformer: Any, original: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of FLUX's or SD3's transformer by diffusers' names: the inverse of `transformer_tensors`.

    Args:
        transformer: the transformer; its tensors give names and shapes and may be empty.
        original: all tensors by their names in the original checkpoint.
    """
    state, tensors = dict(transformer.state_dict()), {}
    for name in state:
        layer, _, kind = name.rpartition(".")
        if name == "pos_embed.pos_embed":
            tensors[name] = original["pos_embed"].view_as(state[name])
            continue
        place = original_layer(transformer, layer)
        if layer != place.parts[0]:
            continue
        is_scale = place.name.endswith(("query_norm", "key_norm"))
        joined = original[f"{place.name}.{'scale' if is_scale else kind}"]
        joined = swap_halves(joined) if place.swaps_halves else joined
        names = [f"{part}.{kind}" for part in place.parts]
        rows = joined.split([len(state[part]) for part in names])
        tensors |= {part: own.clone() for part, own in zip(names, rows, strict=True)}
    return tensors
