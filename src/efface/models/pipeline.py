"""A Stable Diffusion pipeline from a folder, without noise on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from efface.core.errors import EffaceError


def load_pipeline(folder: Path, dtype: torch.dtype, unet: Path | None = None) -> Any:
    """The pipeline in a diffusers folder, with the denoiser of another folder where one is given; only safetensors are read.

    Raises:
        EffaceError: it does not load.
    """
    how: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "local_files_only": True}
    try:
        with without_bars():
            own = {} if unet is None else {"unet": UNet2DConditionModel.from_pretrained(unet, **how)}
            pipe = StableDiffusionPipeline.from_pretrained(folder, **own, **how)
    except (OSError, ValueError, KeyError) as error:
        raise EffaceError(f"{folder} does not load as a Stable Diffusion pipeline: {str(error).splitlines()[0]}") from error
    pipe.set_progress_bar_config(disable=True)
    return pipe


def default_device() -> torch.device:
    """CUDA, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


@contextmanager
def without_bars() -> Iterator[None]:
    """No progress bars of the libraries while a model is loaded: it takes a moment, and whoever calls may have a bar of his own."""
    libraries = [library for library in (diffusers_logging, transformers_logging) if library.is_progress_bar_enabled()]
    for library in libraries:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in libraries:
            library.enable_progress_bar()
