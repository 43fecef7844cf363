"""Reads the text encoders of a checkpoint in the original layout, whatever layout their names follow.

Checkpoints name CLIP's tensors as transformers does, with or without the level ``text_model.``, or as OpenCLIP does,
whose attention has one matrix for query, key and value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from efface.core.errors import EffaceError

from .tensor_names import canonical_name

_TOP = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
    "text_projection.weight": "text_projection.weight",
}
_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_RESBLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)")


def read_text_encoder(
    tensors: Mapping[str, Tensor], prefix: str, config: Path, dtype: torch.dtype, where: str
) -> tuple[Any, dict[str, Tensor]]:
    """Builds a text encoder from a checkpoint's tensors.

    Args:
        tensors: the checkpoint's tensors by name.
        prefix: prefix of the encoder's tensors.
        config: folder with the encoder's ``config.json``.
        dtype: precision of the weights.
        where: the file, for messages.

    Returns:
        The encoder, and the tensors by their names in the file that it has no place for, such as Stable Diffusion 2's
        last layer and text projection.

    Raises:
        EffaceError: a tensor is missing or has another shape than the configuration says.
    """
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    state = canonical_tensors(own)
    source = {new_name: prefix + name for name, tensor in own.items() for new_name in _renamed(name, tensor)}
    settings = CLIPTextConfig.from_pretrained(config)
    has_projection = "CLIPTextModelWithProjection" in (settings.architectures or ()) or config.name == "text_encoder_2"
    model_class: Any = CLIPTextModelWithProjection if has_projection else CLIPTextModel
    encoder, info = model_class.from_pretrained(
        None,
        config=settings,
        state_dict=dict(state),
        dtype=dtype,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # reports them, below
    )
    if lost := sorted({*info["missing_keys"], *(key[0] for key in info["mismatched_keys"])}):
        cure = "give a whole checkpoint, or the config that fits it (--model-config)"
        names = f"{len(lost)} of the tensors of its {config.name}"
        raise EffaceError(f"{where} lacks {names}, or has them in other shapes, such as {lost[0]}: {cure}")
    read = {canonical_name(name) for name in encoder.state_dict()}
    unread = {source[name]: tensors[source[name]] for name in state if name not in read}
    return encoder, {name: tensor for name, tensor in unread.items() if not name.endswith("position_ids")}


def canonical_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a text encoder's tensors by canonical name.

    Args:
        tensors: by their names in the file, without the encoder's prefix.
    """
    return {new_name: value for name, tensor in tensors.items() for new_name, value in _renamed(name, tensor).items()}


def _renamed(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """Returns a tensor of the file under canonical names; OpenCLIP's attention gives three."""
    if name == "text_projection":
        return {"text_projection.weight": tensor.T.contiguous()}
    if name in _TOP:
        return {_TOP[name]: tensor}
    match = _RESBLOCK.fullmatch(name)
    if not match:
        return {canonical_name(name): tensor}
    layer, rest = f"encoder.layers.{match[1]}", match[2]
    if fused := re.fullmatch(r"attn\.in_proj_(weight|bias)", rest):
        parts = [part.clone() for part in tensor.chunk(3)]  # tensors that share memory cannot be saved
        return {f"{layer}.self_attn.{letter}_proj.{fused[1]}": part for letter, part in zip("qkv", parts, strict=True)}
    inner, _, end = rest.rpartition(".")
    return {f"{layer}.{_LAYER.get(inner, inner)}.{end}": tensor}
