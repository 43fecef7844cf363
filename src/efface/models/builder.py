"""From where a model lies to the model, on its device and in its precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from efface.core.errors import EffaceError

from .loading import BUNDLED, DTYPES, SHARED_ENCODER, ModelRef, Source, bundled_folder, name_of
from .memory import oom_as_user_error
from .pipeline import default_device, load_pipeline, silence_libraries
from .stable_diffusion import StableDiffusionModel

CURE = "choose a smaller dtype such as float16, or another device, or a smaller model"


def build_model(source: Source | None, given: Any, asked: ModelRef) -> StableDiffusionModel:
    """The model that lies at ``source``, or around the pipeline ``given`` where there is none.

    Raises:
        EffaceError: it does not load, there is no such device, or the memory does not suffice.
    """
    device, dtype = device_of(asked), dtype_of(asked)
    with oom_as_user_error(f"the model does not fit: {CURE}"), silence_libraries():
        if source is None:
            wanted = [what for what in (device, dtype) if what is not None]
            return StableDiffusionModel(given.to(*wanted) if wanted and hasattr(given, "to") else given, name_of(given))
        device = device or default_device()
        dtype = dtype or (torch.float32 if source.name in BUNDLED else default_dtype(device))
        return StableDiffusionModel(_pipeline(source, dtype, asked).to(device), source.name)


def _pipeline(source: Source, dtype: torch.dtype, asked: ModelRef) -> Any:
    if source.kind == "file":
        from .single_file import load_single_file

        return load_single_file(Path(str(source.path)), dtype, asked.config)
    if source.kind == "hub":
        from .diffusers_folder import check_folder
        from .hub import download_pipeline

        folder = download_pipeline(source.name, asked.revision)
        check_folder(folder)
        return load_pipeline(folder, dtype)
    return load_pipeline(
        Path(str(source.path)), dtype, bundled_folder(source.name) / "unet" if source.name in SHARED_ENCODER else None
    )


def default_dtype(device: torch.device) -> torch.dtype:
    """What a model that is not embedded computes in where nobody says (see `load_model`)."""
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def dtype_of(asked: ModelRef) -> torch.dtype | None:
    """The dtype that was asked for."""
    return getattr(torch, DTYPES[asked.dtype]) if isinstance(asked.dtype, str) else asked.dtype


def device_of(asked: ModelRef) -> torch.device | None:
    """The device that was asked for.

    Raises:
        EffaceError: no such device, or none of its kind here.
    """
    if asked.device is None:
        return None
    try:
        device = torch.device(asked.device)
    except RuntimeError as error:
        raise EffaceError(f"there is no device {asked.device!r}: give cpu, cuda, cuda:1 or mps") from error
    there = {
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, True):
        raise EffaceError(f"there is no device {asked.device} here: leave it out, or give cpu")
    return default_device() if device == torch.device("cuda") else device
