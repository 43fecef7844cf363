"""A Stable Diffusion pipeline from a folder, without noise on the terminal, and what every pipeline must be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from efface.core.errors import EffaceError
from efface.core.io import read_json
from efface.distributed import env

from .diffusers_folder import SUPPORTED, check_parts
from .memory import is_memory_error
from .pipeline_validation import check_complete, check_shapes_fit

PIPELINES = {"StableDiffusionPipeline": StableDiffusionPipeline, "StableDiffusionXLPipeline": StableDiffusionXLPipeline}


def load_pipeline(folder: Path, dtype: torch.dtype, unet: Path | None = None) -> Any:
    """The pipeline in a diffusers folder, with the denoiser of another folder where one is given; only safetensors are read.

    Raises:
        EffaceError: it does not load.
    """
    index = read_json(folder / "model_index.json")
    kind = PIPELINES[str(index["_class_name"])]  # type: ignore[index, call-overload]
    how: dict[str, Any] = {
        "dtype": dtype,
        "use_safetensors": True,
        "local_files_only": True,
        "variant": _variant(folder),
    }
    with pipeline_errors(str(folder)):
        own = {} if unet is None else {"unet": UNet2DConditionModel.from_pretrained(unet, **how)}
        pipe = kind.from_pretrained(folder, **own, **without_checker(kind), **how)
        check_complete(folder, pipe, how["variant"])
    return pipe


def without_checker(kind: Any) -> dict[str, Any]:
    """What leaves out the safety checker, a classifier of a gigabyte that efface does not use."""
    return (
        {}
        if kind is StableDiffusionXLPipeline
        else {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    )


def _variant(folder: Path) -> str | None:
    """``fp16`` where there are no other weights."""
    names = [path.name for path in (folder / "unet").glob("*.safetensors")]
    return "fp16" if names and all(".fp16." in name for name in names) else None


def validate_pipeline(pipe: Any) -> Any:
    """The pipeline, if the adapter can speak for it.

    Raises:
        EffaceError: another kind of pipeline, a missing component, weights that are not in memory, several precisions.
    """
    kind = next((name for name, cls in PIPELINES.items() if isinstance(pipe, cls)), None)
    if kind is None:
        raise EffaceError(f"a {type(pipe).__name__} is not supported: there are {SUPPORTED}")
    check_parts((name for name, part in pipe.components.items() if part is not None), kind, "the pipeline")
    if pipe.unet.config.in_channels != pipe.vae.config.latent_channels:
        channels = f"{pipe.unet.config.in_channels} channels"
        raise EffaceError(
            f"the pipeline's unet reads {channels}, not the vae's {pipe.vae.config.latent_channels}: inpainting is not supported"
        )
    modules = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    check_shapes_fit(pipe)
    if any(p.is_meta for part in modules.values() for p in part.parameters()):
        raise EffaceError("the pipeline's weights are offloaded: load it without offloading")
    precisions = {name: {p.dtype for p in part.parameters()} for name, part in modules.items()}
    if precisions.get("vae") == {torch.float32}:
        precisions.pop("vae")  # often kept so: SDXL's overflows in float16
    if len(set().union(*precisions.values())) > 1:
        said = ", ".join(
            f"{name} {' and '.join(sorted(str(d).removeprefix('torch.') for d in ds))}"
            for name, ds in precisions.items()
        )
        raise EffaceError(f"the pipeline mixes precisions ({said}): choose one with dtype=, or pipe.to(dtype)")
    if kind == "StableDiffusionXLPipeline" and pipe.vae.dtype == torch.float16 and pipe.vae.config.force_upcast:
        pipe.vae.to(torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def family_of(pipe: Any) -> str:
    """``sd1``, ``sd2`` or ``sdxl``; Stable Diffusion 2 is told from 1 by the linear projections around its attention."""
    if isinstance(pipe, StableDiffusionXLPipeline):
        return "sdxl"
    return "sd2" if pipe.unet.config.use_linear_projection else "sd1"


def default_device() -> torch.device:
    """CUDA, of several processes each with a device of its own while there are enough; else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return (
            torch.device("cuda", env.local_rank() % torch.cuda.device_count())
            if env.world_size() > 1
            else torch.device("cuda")
        )
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


@contextmanager
def pipeline_errors(what: str, cure: str = "") -> Iterator[None]:
    """While a model is loaded: nothing on the terminal, and the libraries' errors in one line, with a cure behind it."""
    try:
        with silence_libraries():
            yield
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        ImportError,
        RuntimeError,
        SafetensorError,
    ) as error:
        if is_memory_error(error):
            raise
        said = str(error).strip().splitlines() or [type(error).__name__]
        first = said[0].partition(". ")[0].rstrip(".")
        raise EffaceError(f"{what} does not load as a Stable Diffusion pipeline: {first}{cure}") from error


@contextmanager
def silence_libraries() -> Iterator[None]:
    """No bars and warnings of the libraries while a model is loaded: it takes a moment, and whoever calls may have a bar of his own."""
    libraries = [
        (library, library.is_progress_bar_enabled(), library.get_verbosity())
        for library in (diffusers_logging, transformers_logging)
    ]
    for library, _, _ in libraries:
        library.disable_progress_bar()
        library.set_verbosity_error()
    try:
        yield
    finally:
        for library, bars, level in libraries:
            library.set_verbosity(level)
            if bars:
                library.enable_progress_bar()
