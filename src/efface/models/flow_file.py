"""Loads SD3 and FLUX checkpoints in one file, without the network.

Such a file holds the transformer under the original code's names, and seldom the other components: FLUX's text encoders
and autoencoder come in files of their own. The user names a folder in diffusers layout with the configurations of all
components, and with the weights of those that the file lacks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, FluxTransformer2DModel, SD3Transformer2DModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import T5Config, T5EncoderModel

from efface.core.errors import EffaceError
from efface.core.io import read_json

from .checkpoint_family import UNET, VAE
from .component_weights import find_weights
from .diffusers_folder import check_component, check_folder_of_configs
from .flow_layout import diffusers_tensors, transformer_tensors
from .folder_loading import load_pipeline
from .original_layout import vae_tensors
from .original_text_encoder import read_text_encoder
from .pipeline import loading_errors
from .weight_files import WeightHeader, check_full_precision

_PIPELINE_BY_BLOCKS = {"joint_blocks.": "StableDiffusion3Pipeline", "double_blocks.": "FluxPipeline"}
_TRANSFORMERS: dict[str, Any] = {
    "StableDiffusion3Pipeline": SD3Transformer2DModel,
    "FluxPipeline": FluxTransformer2DModel,
}
_VAES = (VAE, "vae.")
_CLIP_L, _CLIP_G, _T5 = (f"text_encoders.{name}.transformer." for name in ("clip_l", "clip_g", "t5xxl"))
_ENCODERS = {
    "StableDiffusion3Pipeline": {"text_encoder": _CLIP_L, "text_encoder_2": _CLIP_G, "text_encoder_3": _T5},
    "FluxPipeline": {"text_encoder": _CLIP_L, "text_encoder_2": _T5},
}
"""Prefix of each text encoder's tensors, by pipeline and component, in files that hold them."""
_FLUX2 = "single_stream_modulation.lin.weight"


def flow_pipeline_class(names: Collection[str], where: str) -> str | None:
    """Returns the pipeline class of a file's transformer, such as ``FluxPipeline``; None for other files.

    Raises:
        EffaceError: the file is FLUX.2, which is not supported.
    """
    plain = {name.removeprefix(UNET) for name in names}
    if _FLUX2 in plain:
        raise EffaceError(f"{where} is FLUX.2, which is not supported: give a FLUX.1 or Stable Diffusion 3 model")
    found = (name for blocks, name in _PIPELINE_BY_BLOCKS.items() if any(n.startswith(blocks) for n in plain))
    return next(found, None)


def load_flow_file(header: WeightHeader, dtype: torch.dtype, config: str | Path | None) -> Any:
    """Loads the pipeline of an SD3 or FLUX checkpoint.

    Args:
        header: of the file.
        dtype: precision of the weights.
        config: folder in diffusers layout with the components' configurations, tokenizers and scheduler, and the
            weights that the file lacks.

    Raises:
        EffaceError: no folder, a folder of another model, a tensor is missing, or weights are quantized.
    """
    path, class_name = header.path, str(flow_pipeline_class(header.shapes.keys(), str(header.path)))
    if config is None:
        raise EffaceError(
            f"{path} holds the transformer of a {class_name}: name a folder in diffusers layout with its "
            "configurations and other components (--model-config FOLDER)"
        )
    folder = Path(config)
    check_folder_of_configs(folder, ())
    index: Any = read_json(folder / "model_index.json")
    if index["_class_name"] != class_name:
        raise EffaceError(f"{path} belongs to a {class_name}, and the config {folder} to a {index['_class_name']}")
    check_full_precision(header)
    with loading_errors(str(path), f"; it was read with the config {folder} (--model-config)"):
        parts = _read_parts(path, class_name, folder, dtype)
        for name in ("vae", *_ENCODERS[class_name]):
            if name not in parts and (index.get(name) or [None])[0]:
                check_component(folder, name)
        return load_pipeline(folder, dtype, given=parts)


def _read_parts(path: Path, class_name: str, folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """Builds the components that the file holds."""
    tensors = load_file(path)
    parts: dict[str, Any] = {"transformer": _read_transformer(tensors, class_name, folder, dtype, path)}
    if prefix := _prefix_in(tensors, _VAES):
        own = {VAE + name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        with init_empty_weights():
            empty = AutoencoderKL.from_config(AutoencoderKL.load_config(folder / "vae"))
        _check_tensors(own, vae_tensors(empty), f"{path}'s vae")
        options = {"config": str(folder), "subfolder": "vae", "local_files_only": True, "dtype": dtype}
        parts["vae"] = AutoencoderKL.from_single_file(own, **options)
    for name, prefix in _ENCODERS[class_name].items():
        if _prefix_in(tensors, (prefix,)) and prefix == _T5:
            parts[name] = _read_t5(tensors, prefix, folder / name, dtype, path)
        elif _prefix_in(tensors, (prefix,)):
            parts[name], _ = read_text_encoder(tensors, prefix, folder / name, dtype, str(path))
    return parts


def _read_transformer(
    tensors: Mapping[str, Tensor], class_name: str, folder: Path, dtype: torch.dtype, path: Path
) -> Any:
    """Builds the transformer from its original tensors.

    Raises:
        EffaceError: a tensor is missing or has another shape than the configuration says.
    """
    transformer_class = _TRANSFORMERS[class_name]
    with init_empty_weights():
        transformer = transformer_class.from_config(transformer_class.load_config(folder / "transformer"))
    own = {name.removeprefix(UNET): tensor for name, tensor in tensors.items()}
    expected = transformer_tensors(transformer)
    _check_tensors(own, expected, f"{path}'s transformer")
    state = diffusers_tensors(transformer, {name: own[name].to(dtype) for name in expected})
    transformer.load_state_dict(state, assign=True)
    return transformer.eval()


def _read_t5(tensors: Mapping[str, Tensor], prefix: str, config: Path, dtype: torch.dtype, path: Path) -> Any:
    """Builds T5 from its tensors, which have transformers' own names."""
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    options = {"config": T5Config.from_pretrained(config), "state_dict": own, "output_loading_info": True}
    encoder, info = T5EncoderModel.from_pretrained(None, dtype=dtype, ignore_mismatched_sizes=True, **options)
    if lost := sorted({*info["missing_keys"], *(key[0] for key in info["mismatched_keys"])}):
        raise EffaceError(f"{path} lacks {len(lost)} of T5's tensors, or has them in other shapes, such as {lost[0]}")
    return encoder


def _check_tensors(own: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str) -> None:
    """Raises `EffaceError` if a tensor is missing or has another shape; a matrix may come as a 1 x 1 convolution."""
    cure = "give the config that fits it (--model-config)"
    if lost := sorted(expected.keys() - own.keys()):
        raise EffaceError(f"{where} lacks {len(lost)} of its tensors, such as {lost[0]}: {cure}")
    for name, tensor in expected.items():
        shape, wanted = tuple(own[name].shape), tuple(tensor.shape)
        if wanted not in (shape, (*shape, 1, 1)) and (*wanted, 1, 1) != shape:
            raise EffaceError(f"{where} has {name} as {shape}, where the config has {wanted}: {cure}")


def _prefix_in(names: Collection[str], prefixes: Collection[str]) -> str | None:
    return next((prefix for prefix in prefixes if any(name.startswith(prefix) for name in names)), None)


def weighted_folders(folder: Path) -> dict[str, Path]:
    """Returns the folders of a config whose components have weights of their own, by component."""
    names = ("text_encoder", "text_encoder_2", "text_encoder_3", "vae")
    return {name: folder / name for name in names if (folder / name).is_dir() and find_weights(folder / name)}
