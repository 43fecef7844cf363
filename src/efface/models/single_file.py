"""A checkpoint in one file, as Stable Diffusion was first published, without asking the network for what it is.

Such a file holds weights under the original code's names and nothing else: which model it is shows in its names, how its parts are built
and how its text is cut into tokens comes from configurations that ship with efface (``data/original``), or from a folder of the user's.
diffusers does the conversion.
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
from .pipeline import PIPELINES, pipeline_errors, without_checker

SHIPPED = ("sd1", "sd2", "sd2-base", "sdxl")
_OF = {
    "conditioner.embedders.1.model.": "sdxl",
    "cond_stage_model.model.": "sd2",
    "cond_stage_model.transformer.": "sd1",
}
_PARTS = {"unet": "model.diffusion_model.", "vae": "first_stage_model."}
BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def load_single_file(path: Path, dtype: torch.dtype, config: str | Path | None = None) -> Any:
    """The pipeline in a checkpoint.

    Args:
        path: a ``.safetensors`` file.
        dtype: of the weights.
        config: a folder in diffusers layout that describes it, or one of `SHIPPED`; by default the one that its names show. For Stable
            Diffusion 2 that is ``sd2``, 768 pixels and velocity; the file of the 512-pixel model, which predicts noise, looks the same
            unless its metadata says so, and is ``sd2-base``.

    Raises:
        EffaceError: it is no checkpoint of Stable Diffusion, lacks a part, or does not fit the configuration.
    """
    names, said = _header(path)
    family = detect_family(names, path)
    folder = _folder(config or family)
    kind = PIPELINES[str(read_json(folder / "model_index.json")["_class_name"])]  # type: ignore[index, call-overload]
    given = {**_tokenizers(folder, family), "scheduler": _scheduler(folder, names, said), **without_checker(kind)}
    try:
        with pipeline_errors(
            str(path), f"; it was read as {config or family}: a config may say otherwise (--model-config)"
        ):
            return kind.from_single_file(str(path), config=str(folder), local_files_only=True, dtype=dtype, **given)
    except SingleFileComponentError as error:
        raise EffaceError(f"{path} lacks a part: {str(error.message).splitlines()[0]}") from error


def detect_family(names: Mapping[str, Any], path: Path) -> str:
    """``sd1``, ``sd2`` or ``sdxl``, by the names and shapes of a checkpoint's tensors.

    Raises:
        EffaceError: another kind of file, such as a LoRA, or a part that is missing.
    """
    if any("lora_" in name or ".lora." in name for name in names):
        raise EffaceError(f"{path} is a LoRA, no checkpoint: give the model that it belongs to")
    missing = [part for part, prefix in _PARTS.items() if not any(name.startswith(prefix) for name in names)]
    family = next((family for prefix, family in _OF.items() if any(name.startswith(prefix) for name in names)), None)
    if len(missing) == len(_PARTS):
        raise EffaceError(
            f"{path} is no checkpoint of Stable Diffusion 1, 2 or XL in the original layout: none of its parts are there"
        )
    if "conditioner.embedders.0.model.text_projection" in names:
        raise EffaceError(f"{path} is SDXL's refiner, which is not supported: give the base model")
    if missing or family is None:
        lacking = missing + ["text_encoder"] * (family is None)
        raise EffaceError(
            f"{path} has no {', no '.join(lacking)}: give a whole checkpoint, or a folder in diffusers layout"
        )
    return family


def _header(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Names and shapes, and the file's metadata."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise EffaceError(f"{path} is no safetensors file, or was cut short: {error}") from error


def _folder(config: str | Path) -> Path:
    """The folder of a configuration that ships, or of the user's own."""
    if str(config) in SHIPPED:
        return Path(str(files("efface.models").joinpath("data", "original", str(config))))
    check_folder_of_configs(Path(config), SHIPPED)
    return Path(config)


def _scheduler(folder: Path, names: Mapping[str, Any], said: Mapping[str, str]) -> Any:
    """The configuration's noise, with what the file itself says of it: ``modelspec`` metadata, and the markers v_pred and ztsnr."""
    config = dict(DDIMScheduler.load_config(folder / "scheduler"))
    sampler = getattr(
        diffusers, str(config.get("_class_name")), DDIMScheduler
    )  # the one that knows what the others leave unsaid
    kinds = {"v": "v_prediction", "epsilon": "epsilon"}
    if (kind := kinds.get(said.get("modelspec.prediction_type", ""))) or (
        kind := "v_prediction" if "v_pred" in names else None
    ):
        config["prediction_type"] = kind
    if "ztsnr" in names:
        config |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return sampler.from_config(config)


def _tokenizers(folder: Path, family: str) -> dict[str, Any]:
    """The tokenizers of a configuration that has none of its own; the model's other one and Stable Diffusion 2's pad with ``!``."""
    wanted = {"tokenizer": "!" if family == "sd2" else EOS, **({"tokenizer_2": "!"} if family == "sdxl" else {})}
    return {name: clip_tokenizer(pad) for name, pad in wanted.items() if not (folder / name).is_dir()}


@cache
def _merges() -> tuple[tuple[str, str], ...]:
    text = gzip.decompress(
        files("efface.models").joinpath("data", "original", "clip_merges.txt.gz").read_bytes()
    ).decode("utf-8")
    return tuple((first, second) for first, second in (line.split() for line in text.splitlines()))


def clip_tokenizer(pad: str = EOS) -> Any:
    """CLIP's tokenizer: 256 bytes, each also as a word's end, the merges, begin and end of text: 49,408 tokens, 77 places."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]  # shown as letters beyond the first 256
    letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in _merges()), BOS, EOS]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=list(_merges()), pad_token=pad, model_max_length=77)
