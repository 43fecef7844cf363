"""Loads a checkpoint in one file, the layout in which Stable Diffusion was first published, without the network.

Such a file holds weights under the original code's names and nothing else. The names show which model it is. The
configurations of its components and the tokenizer ship with efface (``data/original``) or come from the user's
folder. diffusers converts the weights.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DDIMScheduler
from diffusers.loaders.single_file_utils import SingleFileComponentError
from safetensors import SafetensorError, safe_open
from transformers import CLIPTokenizer

from efface.core.errors import EffaceError
from efface.core.io import read_json

from .diffusers_folder import check_folder_of_configs
from .pipeline import PIPELINES, loading_errors, no_safety_checker

SHIPPED = ("sd1", "sd2", "sd2-base", "sdxl")
"""Names of the shipped configurations."""
BOS, EOS = "<|startoftext|>", "<|endoftext|>"
_FAMILY_BY_PREFIX = {
    "conditioner.embedders.1.model.": "sdxl",
    "cond_stage_model.model.": "sd2",
    "cond_stage_model.transformer.": "sd1",
}
_COMPONENT_PREFIXES = {"unet": "model.diffusion_model.", "vae": "first_stage_model."}
_PREDICTION_TYPES = {"v": "v_prediction", "epsilon": "epsilon"}


def load_single_file(path: Path, dtype: torch.dtype, config: str | Path | None = None) -> Any:
    """Loads the pipeline in a checkpoint.

    Args:
        path: a ``.safetensors`` file.
        dtype: precision of the weights.
        config: folder in diffusers layout that describes the checkpoint, or one of `SHIPPED`; by default the one of
            the family that the tensor names show. For Stable Diffusion 2 that is ``sd2`` (768 pixels, velocity). The
            512-pixel model, which predicts noise, has the same tensor names; give ``sd2-base`` unless the file's
            metadata states the prediction type.

    Raises:
        EffaceError: the file is not a Stable Diffusion checkpoint, lacks a component or does not fit the configuration.
    """
    shapes, metadata = _read_header(path)
    family = detect_family(shapes, path)
    folder = _config_folder(config or family)
    pipeline_class = PIPELINES[str(read_json(folder / "model_index.json")["_class_name"])]  # type: ignore[index, call-overload]
    components = {
        **_tokenizers(folder, family),
        "scheduler": _scheduler(folder, shapes, metadata),
        **no_safety_checker(pipeline_class),
    }
    cure = f"; it was read as {config or family}: a config may say otherwise (--model-config)"
    try:
        with loading_errors(str(path), cure):
            return pipeline_class.from_single_file(
                str(path), config=str(folder), local_files_only=True, dtype=dtype, **components
            )
    except SingleFileComponentError as error:
        raise EffaceError(f"{path} lacks a component: {str(error.message).splitlines()[0]}") from error


def detect_family(names: Mapping[str, Any], path: Path) -> str:
    """Returns ``sd1``, ``sd2`` or ``sdxl``, by the names of a checkpoint's tensors.

    Args:
        names: tensor names, as keys.
        path: the file, for messages.

    Raises:
        EffaceError: the file is of another kind, such as a LoRA, or lacks a component.
    """
    if any("lora_" in name or ".lora." in name for name in names):
        raise EffaceError(f"{path} is a LoRA, no checkpoint: give the model that it belongs to")
    missing = [
        component
        for component, prefix in _COMPONENT_PREFIXES.items()
        if not any(name.startswith(prefix) for name in names)
    ]
    families = (
        family for prefix, family in _FAMILY_BY_PREFIX.items() if any(name.startswith(prefix) for name in names)
    )
    family = next(families, None)
    if len(missing) == len(_COMPONENT_PREFIXES):
        raise EffaceError(
            f"{path} is no checkpoint of Stable Diffusion 1, 2 or XL in the original layout: it has no component of one"
        )
    if "conditioner.embedders.0.model.text_projection" in names:
        raise EffaceError(f"{path} is SDXL's refiner, which is not supported: give the base model")
    if family is None:
        missing.append("text_encoder")
    if missing or family is None:
        raise EffaceError(
            f"{path} has no {', no '.join(missing)}: give a whole checkpoint, or a folder in diffusers layout"
        )
    return family


def _read_header(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Reads the tensors' shapes by name, and the file's metadata."""
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            return shapes, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise EffaceError(f"{path} is no safetensors file, or was cut short: {error}") from error


def _config_folder(config: str | Path) -> Path:
    """Returns the folder of a shipped configuration, or the user's own folder after a check."""
    if str(config) in SHIPPED:
        return Path(str(files("efface.models").joinpath("data", "original", str(config))))
    check_folder_of_configs(Path(config), SHIPPED)
    return Path(config)


def _scheduler(folder: Path, names: Mapping[str, Any], metadata: Mapping[str, str]) -> Any:
    """Builds the configuration's scheduler, changed by what the checkpoint states about its training.

    A checkpoint states its prediction type in ``modelspec`` metadata or by a tensor named ``v_pred``, and a terminal
    SNR of zero by a tensor named ``ztsnr``.
    """
    config = dict(DDIMScheduler.load_config(folder / "scheduler"))
    # This class fills in the defaults that a configuration of its own kind leaves out.
    scheduler_class = getattr(diffusers, str(config.get("_class_name")), DDIMScheduler)
    if prediction_type := _PREDICTION_TYPES.get(metadata.get("modelspec.prediction_type", "")):
        config["prediction_type"] = prediction_type
    elif "v_pred" in names:
        config["prediction_type"] = "v_prediction"
    if "ztsnr" in names:
        config |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return scheduler_class.from_config(config)


def _tokenizers(folder: Path, family: str) -> dict[str, Any]:
    """Builds the tokenizers that the configuration lacks; Stable Diffusion 2's and SDXL's second pad with ``!``."""
    pads = {"tokenizer": "!" if family == "sd2" else EOS}
    if family == "sdxl":
        pads["tokenizer_2"] = "!"
    return {name: clip_tokenizer(pad) for name, pad in pads.items() if not (folder / name).is_dir()}


@cache
def _merges() -> tuple[tuple[str, str], ...]:
    """Reads the merges of CLIP's byte-pair encoding, most frequent first."""
    compressed = files("efface.models").joinpath("data", "original", "clip_merges.txt.gz").read_bytes()
    lines = gzip.decompress(compressed).decode("utf-8").splitlines()
    return tuple((first, second) for first, second in (line.split() for line in lines))


def clip_tokenizer(pad: str = EOS) -> Any:
    """Builds CLIP's tokenizer: 49,408 tokens and a context length of 77.

    The vocabulary is the 256 bytes, the same with the end-of-word marker, the merged pairs, and the tokens of begin
    and end of text.

    Args:
        pad: the padding token.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    unprintable = [byte for byte in range(256) if byte not in printable]
    # Byte-level encoding shows an unprintable byte as a letter beyond the first 256 code points.
    letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(unprintable))]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in _merges()), BOS, EOS]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=list(_merges()), pad_token=pad, model_max_length=77)
