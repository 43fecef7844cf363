"""Checks that a diffusers pipeline can stand behind the model protocol; the libraries' errors as one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from torch import nn
from transformers.utils import logging as transformers_logging

from efface.core.errors import EffaceError
from efface.distributed import env

from .diffusers_folder import SUPPORTED_PIPELINES, check_components
from .memory import is_memory_error
from .model_kinds import check_unet_config
from .module_checks import check_not_offloaded, check_one_precision
from .pipeline_validation import check_shapes_fit

PIPELINES = {"StableDiffusionPipeline": StableDiffusionPipeline, "StableDiffusionXLPipeline": StableDiffusionXLPipeline}
_LIBRARY_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    ImportError,
    RuntimeError,
    SafetensorError,
)


def no_safety_checker(pipeline_class: Any) -> dict[str, Any]:
    """Returns the arguments that leave out the safety checker, a classifier of a gigabyte that efface does not use."""
    if pipeline_class is StableDiffusionXLPipeline:
        return {}
    return {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def validate_pipeline(pipe: Any) -> Any:
    """Checks that the adapter supports a pipeline, and prepares it for use in place.

    Keeps SDXL's autoencoder in float32 where it overflows in float16, and turns off progress bars.

    Raises:
        EffaceError: the class is not supported, a component is missing, weights are offloaded or precisions differ.
    """
    class_name = next((name for name, cls in PIPELINES.items() if isinstance(pipe, cls)), None)
    if class_name is None:
        raise EffaceError(f"a {type(pipe).__name__} is not supported: there are {SUPPORTED_PIPELINES}")
    present = (name for name, component in pipe.components.items() if component is not None)
    check_components(present, class_name, "the pipeline")
    check_unet_config(pipe.unet.config, "the pipeline", pipe.vae.config.latent_channels)
    check_shapes_fit(pipe)
    modules = {name: module for name, module in pipe.components.items() if isinstance(module, nn.Module)}
    check_not_offloaded(modules)
    check_one_precision(modules)
    if class_name == "StableDiffusionXLPipeline" and pipe.vae.dtype == torch.float16 and pipe.vae.config.force_upcast:
        pipe.vae.to(torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def pipeline_family(pipe: Any) -> str:
    """Returns ``sd1``, ``sd2`` or ``sdxl``; ``sd2`` differs from ``sd1`` by linear projections around attention."""
    if isinstance(pipe, StableDiffusionXLPipeline):
        return "sdxl"
    return "sd2" if pipe.unet.config.use_linear_projection else "sd1"


def default_device() -> torch.device:
    """Returns CUDA, else MPS, else the CPU; each of several processes takes the CUDA device of its local rank."""
    if torch.cuda.is_available():
        if env.world_size() > 1:
            return torch.device("cuda", env.local_rank() % torch.cuda.device_count())
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


@contextmanager
def loading_errors(name: str, cure: str = "") -> Iterator[None]:
    """Silences the libraries while a model loads, and turns their errors into one line.

    Args:
        name: the folder or file, for the message.
        cure: text to append to the message.

    Raises:
        EffaceError: the body raised one of the libraries' errors, other than too little memory.
    """
    try:
        with silence_libraries():
            yield
    except _LIBRARY_ERRORS as error:
        if is_memory_error(error):
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        first = " ".join(lines[0].partition(". ")[0].rstrip(".").split())
        raise EffaceError(f"{name} does not load as a pipeline: {first}{cure}") from error


@contextmanager
def silence_libraries() -> Iterator[None]:
    """Suppresses the progress bars and warnings of diffusers and transformers; the caller may show its own."""
    libraries = (diffusers_logging, transformers_logging)
    states = [(library, library.is_progress_bar_enabled(), library.get_verbosity()) for library in libraries]
    for library in libraries:
        library.disable_progress_bar()
        library.set_verbosity_error()
    try:
        yield
    finally:
        for library, bar_enabled, verbosity in states:
            library.set_verbosity(verbosity)
            if bar_enabled:
                library.enable_progress_bar()
