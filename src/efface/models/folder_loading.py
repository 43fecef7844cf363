"""Loads a pipeline from a folder in diffusers layout, with every tensor or not at all."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    FluxTransformer2DModel,
    ModelMixin,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTextModelWithProjection, Gemma2Model, T5EncoderModel

from efface.core.errors import EffaceError
from efface.core.io import read_json

from .component_weights import find_weights
from .flow_pipeline import FLOW_PIPELINES, unused_components
from .pipeline import PIPELINES, loading_errors, no_safety_checker

_CLASSES = {"unet": UNet2DConditionModel}
_NAMED_CLASSES = {
    "AutoencoderKL": AutoencoderKL,
    "AutoencoderDC": AutoencoderDC,
    "CLIPTextModel": CLIPTextModel,
    "CLIPTextModelWithProjection": CLIPTextModelWithProjection,
    "T5EncoderModel": T5EncoderModel,
    "FluxTransformer2DModel": FluxTransformer2DModel,
    "SD3Transformer2DModel": SD3Transformer2DModel,
    "Gemma2Model": Gemma2Model,
    "SanaTransformer2DModel": SanaTransformer2DModel,
}
"""Classes of components, as the pipeline's index names them."""
_OFTEN_UNREAD = ("position_ids", "text_projection.weight", "logit_scale", "embed_tokens.weight")
"""Ends of tensors that many published files hold beside those of the component."""
_COMPONENTS = ("unet", "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")


def load_pipeline(
    folder: Path, dtype: torch.dtype, unet_folder: Path | None = None, given: Mapping[str, Any] | None = None
) -> Any:
    """Loads the pipeline of a diffusers folder from safetensors.

    Each component is loaded from its own files, since components may come in different variants.

    Args:
        folder: in diffusers layout.
        dtype: precision of the weights.
        unet_folder: folder of a denoiser that replaces the pipeline's own.
        given: loaded components that replace the folder's.

    Raises:
        EffaceError: the pipeline does not load, or a tensor is in no file.
    """
    index: Any = read_json(folder / "model_index.json")
    class_name = str(index["_class_name"])
    is_flow = class_name in FLOW_PIPELINES
    pipeline_class = (FLOW_PIPELINES if is_flow else PIPELINES)[class_name]
    unused = unused_components(index) if is_flow else no_safety_checker(pipeline_class)
    folders = {name: folder / name for name in _COMPONENTS if (index.get(name) or [None])[0]}
    if unet_folder is not None:
        folders["unet"] = unet_folder
    with loading_errors(str(folder)):
        parts = dict(given or {})
        for name in (name for name in folders if name not in parts):
            parts[name] = _load_component(folders[name], _component_class(name, index, folder), dtype)
        return pipeline_class.from_pretrained(folder, dtype=dtype, local_files_only=True, **parts, **unused)


def _component_class(name: str, index: Any, folder: Path) -> Any:
    """Returns the class of a component.

    Raises:
        EffaceError: the pipeline has a text encoder, autoencoder or transformer of another kind.
    """
    if name in _CLASSES:
        return _CLASSES[name]
    class_name = str(index[name][1])
    if class_name not in _NAMED_CLASSES:
        supported = " and ".join(_NAMED_CLASSES)
        raise EffaceError(f"{folder} has a {class_name} as {name}, which is not supported: there are {supported}")
    return _NAMED_CLASSES[class_name]


def _load_component(folder: Path, component_class: Any, dtype: torch.dtype) -> Any:
    """Loads one component.

    For a missing tensor, transformers would draw random values, and diffusers leave the tensor on the meta device.

    Raises:
        EffaceError: a tensor is in no file, or has another shape than the configuration says.
    """
    weights = find_weights(folder)
    # transformers then lists tensors of other shapes; diffusers raises an error for them that names the tensor
    listing = {} if issubclass(component_class, ModelMixin) else {"ignore_mismatched_sizes": True}
    component, info = component_class.from_pretrained(
        folder,
        dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        variant=weights.variant if weights else None,
        output_loading_info=True,
        **listing,
    )
    on_meta = [name for name, tensor in component.state_dict().items() if tensor.is_meta]
    lost = sorted({*info["missing_keys"], *on_meta, *(key[0] for key in info["mismatched_keys"])})
    if lost:
        raise EffaceError(
            f"{folder} lacks {len(lost)} of its tensors, such as {lost[0]}: save the whole pipeline again"
        )
    _report_unread(folder, info["unexpected_keys"])
    return component


def _report_unread(folder: Path, names: Iterable[str]) -> None:
    """Warns of tensors that a component's configuration has no place for, such as layers that it leaves out."""
    unread = sorted(name for name in names if not name.endswith(_OFTEN_UNREAD))
    if unread:
        warnings.warn(
            f"{folder} holds {len(unread)} tensors that its config.json has no place for, such as {unread[0]}: they "
            "are not read",
            stacklevel=2,
        )
