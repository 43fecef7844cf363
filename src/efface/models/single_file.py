"""Loads a checkpoint in one file, the layout in which Stable Diffusion was first published, without the network.

Such a file holds weights under the original code's names and little else. The names show which model it is. The
configurations of its components and the tokenizer ship with efface (``data/original``) or come from the user's
folder. diffusers converts the weights of the denoiser and the autoencoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import SingleFileComponentError
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTokenizer

from efface.core.errors import EffaceError
from efface.core.io import read_json

from .checkpoint_family import TEXT_ENCODER_PREFIXES, UNET, VAE, detect_family
from .checkpoint_settings import CheckpointSettings, read_settings
from .clip_tokenizer import EOS, clip_tokenizer
from .diffusers_folder import check_folder_of_configs
from .float32_weights import CheckpointSource, FolderSource, WeightSource
from .flow_file import flow_pipeline_class, load_flow_file, weighted_folders
from .original_layout import unet_tensors, vae_tensors
from .original_text_encoder import read_text_encoder
from .pipeline import PIPELINES, loading_errors, no_safety_checker
from .weight_files import check_full_precision, read_header

SHIPPED = ("sd1", "sd2", "sd2-base", "sdxl")
"""Names of the shipped configurations."""
_CURE = "give a whole checkpoint, or the config that fits it (--model-config)"


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint as a pipeline.

    Attributes:
        pipe: the pipeline.
        unread_tensors: text encoder tensors by their names in the file that no component has a place for, such as
            Stable Diffusion 2's last layer; an export to one file writes them again.
        weight_source: the files that the weights came from.
    """

    pipe: Any
    unread_tensors: Mapping[str, Tensor] = field(default_factory=dict)
    weight_source: WeightSource | None = None


def load_single_file(path: Path, dtype: torch.dtype, config: str | Path | None = None) -> LoadedCheckpoint:
    """Loads the pipeline in a checkpoint.

    Args:
        path: a ``.safetensors`` file.
        dtype: precision of the weights.
        config: folder in diffusers layout that describes the checkpoint, or one of `SHIPPED`; by default the one of
            the family that the tensor names show. For Stable Diffusion 2 that is ``sd2`` (768 pixels, velocity), or
            ``sd2-base`` (512 pixels) if the file's metadata say that the model predicts noise. Both have the same
            tensor names; give ``sd2-base`` for a file without metadata.

    Raises:
        EffaceError: the file is not a checkpoint of Stable Diffusion or FLUX, is quantized, lacks a tensor or does not
            fit the configuration.
    """
    header = read_header(path)
    if flow_pipeline_class(header.shapes.keys(), str(path)):
        source = FolderSource(weighted_folders(Path(config))) if config else None
        return LoadedCheckpoint(load_flow_file(header, dtype, config), weight_source=source)
    family = detect_family(header.shapes, path)
    check_full_precision(header)
    settings = read_settings(header.shapes.keys(), header.metadata, str(path))
    is_base = family == "sd2" and settings.scheduler.get("prediction_type") == "epsilon"
    config = config or ("sd2-base" if is_base else family)
    folder = _config_folder(config)
    cure = f"; it was read as {config}: a config may say otherwise (--model-config)"
    try:
        with loading_errors(str(path), cure):
            return _build(path, family, folder, settings, dtype)
    except SingleFileComponentError as error:
        raise EffaceError(f"{path} lacks a component: {str(error.message).splitlines()[0]}") from error


def _build(path: Path, family: str, folder: Path, settings: CheckpointSettings, dtype: torch.dtype) -> LoadedCheckpoint:
    """Builds every component and the pipeline."""
    tensors = load_file(path)
    index: Any = read_json(folder / "model_index.json")
    pipeline_class: Any = PIPELINES[str(index["_class_name"])]
    if (family == "sdxl") != (pipeline_class is StableDiffusionXLPipeline):
        raise EffaceError(f"{path} is a checkpoint of {family}; the config {folder} does not fit it: give another one")
    parts: dict[str, Any] = {**_tokenizers(folder, family), **no_safety_checker(pipeline_class)}
    parts["scheduler"] = settings.build_scheduler(DDIMScheduler.load_config(folder / "scheduler"))
    for name, component_class, prefix in (("unet", UNet2DConditionModel, UNET), ("vae", AutoencoderKL, VAE)):
        parts[name] = _read_component(tensors, component_class, prefix, folder / name, dtype, path)
    if settings.sample_size is not None:
        parts["unet"].register_to_config(sample_size=settings.sample_size)
    unread: dict[str, Tensor] = {}
    for name, prefixes in TEXT_ENCODER_PREFIXES[family].items():
        prefix = next(p for p in prefixes if any(tensor.startswith(p) for tensor in tensors))
        parts[name], rest = read_text_encoder(tensors, prefix, folder / name, dtype, str(path))
        unread |= rest
    if pipeline_class is StableDiffusionXLPipeline:
        known = {"force_zeros_for_empty_prompt": index.get("force_zeros_for_empty_prompt", True)}
        parts |= {**known, **settings.pipeline, "add_watermarker": False}
    return LoadedCheckpoint(pipeline_class(**parts), unread, CheckpointSource(path, family))


def _read_component(
    tensors: Mapping[str, Tensor], component_class: Any, prefix: str, config: Path, dtype: torch.dtype, path: Path
) -> Any:
    """Builds the denoiser or the autoencoder from its tensors.

    Raises:
        EffaceError: a tensor is missing.
    """
    own = {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    with init_empty_weights():
        empty = component_class.from_config(component_class.load_config(config))
    expected = unet_tensors(empty) if prefix == UNET else vae_tensors(empty)
    if lost := sorted(expected.keys() - own.keys()):
        raise EffaceError(f"{path} lacks {len(lost)} of the tensors of its {config.name}, such as {lost[0]}: {_CURE}")
    for name, tensor in expected.items():
        if _shape(own[name], prefix) != _shape(tensor, prefix):
            shapes = f"{name} as {tuple(own[name].shape)}, where the config has {tuple(tensor.shape)}"
            raise EffaceError(f"{path} has {shapes}: {_CURE}")
    return component_class.from_single_file(
        own, config=str(config.parent), subfolder=config.name, local_files_only=True, dtype=dtype
    )


def _shape(tensor: Tensor, prefix: str) -> tuple[int, ...]:
    """Returns a tensor's shape; an autoencoder's attention matrices come as matrices or as 1 x 1 convolutions."""
    shape = tuple(tensor.shape)
    return shape[:2] if prefix == VAE and shape[2:] == (1, 1) else shape


def _config_folder(config: str | Path) -> Path:
    """Returns the folder of a shipped configuration, or the user's own folder after a check."""
    if str(config) in SHIPPED:
        return Path(str(files("efface.models").joinpath("data", "original", str(config))))
    check_folder_of_configs(Path(config), SHIPPED)
    return Path(config)


def _tokenizers(folder: Path, family: str) -> dict[str, Any]:
    """Returns the configuration's tokenizers, or CLIP's; Stable Diffusion 2's and SDXL's second pad with ``!``."""
    pads = {"tokenizer": "!" if family == "sd2" else EOS}
    if family == "sdxl":
        pads["tokenizer_2"] = "!"
    return {
        name: CLIPTokenizer.from_pretrained(folder / name) if (folder / name).is_dir() else clip_tokenizer(pad)
        for name, pad in pads.items()
    }
