"""Builds a model from its source or from a pipeline in memory, on the requested device and in the requested dtype."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, FluxPipeline, SanaPipeline, StableDiffusion3Pipeline

from efface.core.errors import EffaceError

from .diffusers_folder import check_folder
from .editable import EditableModel
from .float32_weights import FolderSource, WeightSource
from .flux import FluxModel
from .folder_loading import load_pipeline
from .hub import download_pipeline
from .memory import oom_as_user_error
from .model_ref import BUNDLED, DTYPES, SHARED_ENCODER, ModelRef, ModelSource, bundled_folder, model_name
from .offload_device import check_offload_device
from .pipeline import default_device, silence_libraries
from .placement import is_offloaded_by_efface, offload, offload_device
from .sana import SanaModel
from .sd3 import SD3Model
from .single_file import LoadedCheckpoint, load_single_file
from .stable_diffusion import StableDiffusionModel

ADAPTER = "_efface_model"
"""Attribute of a pipeline in memory that holds its adapter."""
_FLOW_ADAPTERS: dict[type, type[FluxModel] | type[SD3Model] | type[SanaModel]] = {
    FluxPipeline: FluxModel,
    StableDiffusion3Pipeline: SD3Model,
    SanaPipeline: SanaModel,
}
CURE = "choose a smaller dtype such as float16, or another device, or a smaller model"


def build_model(source: ModelSource | None, pipe: Any, options: ModelRef) -> EditableModel:
    """Builds the model of a source, or of a pipeline in memory.

    Args:
        source: where to load the pipeline from; None to use ``pipe``.
        pipe: the pipeline in memory; read only if ``source`` is None.
        options: device, dtype, revision and config; its ``ref`` is not read.

    Raises:
        EffaceError: the pipeline does not load, the device does not exist or memory does not suffice.
    """
    device, dtype = resolve_device(options), resolve_dtype(options)
    if options.offload:
        check_offload_device((device or default_device()).type)
    with oom_as_user_error(f"the model does not fit: {CURE}"), silence_libraries():
        if source is None:
            return _wrap_once(_move(pipe, device, dtype, options.offload))
        device = device or default_device()
        dtype = dtype or (torch.float32 if source.name in BUNDLED else default_dtype(device))
        loaded = _load_source(source, dtype, options)
        pipe = _move(loaded.pipe, device, None, options.offload)
        return wrap_pipeline(pipe, source.name, loaded.unread_tensors, loaded.weight_source)


def _move(pipe: Any, device: torch.device | None, dtype: torch.dtype | None, offloaded: bool) -> Any:
    """Moves a pipeline in memory to a device and a dtype, or offloads it where that is asked for or it was before."""
    if not isinstance(pipe, DiffusionPipeline):
        return pipe  # refused later, with its class
    previous = offload_device(pipe)
    if not offloaded and previous is None:
        targets = [target for target in (device, dtype) if target is not None]
        return pipe.to(*targets) if targets else pipe
    if dtype is not None:
        pipe.to(dtype)
    if is_offloaded_by_efface(pipe) and device in (None, previous):
        return pipe
    return offload(pipe, device or previous or default_device())


def _wrap_once(pipe: Any) -> EditableModel:
    """Returns the adapter of a pipeline in memory, the same one as long as the pipeline keeps its components.

    An erasure that is applied to a pipeline belongs to its adapter, which a later call must find again.
    """
    known: EditableModel | None = getattr(pipe, "__dict__", {}).get(ADAPTER)
    if known is not None and known.pipe is pipe:
        current = ((name, getattr(pipe, name, None)) for name in known.components)
        if all(known.components[name] is module for name, module in current):
            return known
    model = wrap_pipeline(pipe, model_name(pipe))
    object.__setattr__(pipe, ADAPTER, model)
    return model


def wrap_pipeline(
    pipe: Any,
    name: str,
    unread_tensors: Mapping[str, torch.Tensor] | None = None,
    weight_source: WeightSource | None = None,
) -> EditableModel:
    """Returns the adapter of a pipeline's class.

    Args:
        pipe: the pipeline.
        name: the model's name in results.
        unread_tensors: see `StableDiffusionModel`.
        weight_source: the files that the weights came from; None for a pipeline in memory.

    Raises:
        EffaceError: no adapter supports the pipeline, or a component is missing.
    """
    for pipeline_class, adapter in _FLOW_ADAPTERS.items():
        if isinstance(pipe, pipeline_class):
            return adapter(pipe, name, weight_source)
    return StableDiffusionModel(pipe, name, unread_tensors, weight_source)


def _load_source(source: ModelSource, dtype: torch.dtype, options: ModelRef) -> LoadedCheckpoint:
    """Loads the pipeline of a source on the CPU."""
    if source.kind == "hub":
        folder = download_pipeline(source.name, options.revision)
        check_folder(folder)
        return _from_folder(folder, dtype)
    path = Path(str(source.path))
    if source.kind == "file":
        return load_single_file(path, dtype, options.config)
    unet_folder = bundled_folder(source.name) / "unet" if source.name in SHARED_ENCODER else None
    return _from_folder(path, dtype, unet_folder)


def _from_folder(folder: Path, dtype: torch.dtype, unet_folder: Path | None = None) -> LoadedCheckpoint:
    """Loads the pipeline of a folder, with the denoiser of another one if it is given."""
    components = ("text_encoder", "text_encoder_2", "text_encoder_3", "unet", "transformer", "vae")
    folders = {name: folder / name for name in components} | ({"unet": unet_folder} if unet_folder else {})
    return LoadedCheckpoint(load_pipeline(folder, dtype, unet_folder), weight_source=FolderSource(folders))


def default_dtype(device: torch.device) -> torch.dtype:
    """Returns the precision of a model that is not bundled where the user names none (see `load_model`)."""
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def resolve_dtype(options: ModelRef) -> torch.dtype | None:
    """Returns the requested dtype; None if the reference names none."""
    return getattr(torch, DTYPES[options.dtype]) if isinstance(options.dtype, str) else options.dtype


def resolve_device(options: ModelRef) -> torch.device | None:
    """Returns the requested device; None if the reference names none.

    Raises:
        EffaceError: this machine does not have the device.
    """
    if options.device is None:
        return None
    try:
        device = torch.device(options.device)
    except RuntimeError as error:
        raise EffaceError(f"there is no device {options.device!r}: give cpu, cuda, cuda:1 or mps") from error
    available = {
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, True):
        raise EffaceError(f"there is no device {options.device} here: omit the device, or give cpu")
    return default_device() if device == torch.device("cuda") else device
