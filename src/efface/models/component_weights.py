"""Finds the weight files that a component of a diffusers folder is loaded from, and checks them without torch.

A component's folder may hold its weights in one file or in several with an index, in full precision, in a variant such
as ``fp16``, or both; components may differ. Other files in the folder, such as backups, are not read.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from efface.core.errors import EffaceError
from efface.core.io import read_json

from .weight_files import check_full_precision, check_no_adapter, read_header

_STEMS = dict.fromkeys(("unet", "transformer", "vae"), "diffusion_pytorch_model")
_TEXT_ENCODER_STEM = "model"
_PREFERRED = (None, "fp32", "fp16", "bf16")
"""Variants in the order in which one is chosen; others follow by name."""


@dataclass(frozen=True)
class WeightFiles:
    """The files that one component's weights are read from.

    Attributes:
        variant: such as ``fp16``; None for files without a variant in their name.
        files: one file, or the shards of an index.
    """

    variant: str | None
    files: tuple[Path, ...]


def find_weights(folder: Path) -> WeightFiles | None:
    """Returns the weight files of a component's folder; None if there are none in safetensors under the usual names.

    Raises:
        EffaceError: the folder holds an adapter, or an index names a file that does not exist or cannot be read.
    """
    if (folder / "adapter_config.json").is_file():
        raise EffaceError(
            f"{folder} holds an adapter (adapter_config.json) in place of or beside its weights: merge it with "
            "pipe.fuse_lora() or model.merge_and_unload(), and save the pipeline again"
        )
    stem = re.escape(_STEMS.get(folder.name, _TEXT_ENCODER_STEM))
    single = re.compile(rf"{stem}(?:\.(?P<variant>[\w-]+))?\.safetensors")
    index = re.compile(rf"{stem}\.safetensors\.index(?:\.(?P<variant>[\w-]+))?\.json")
    found: dict[str | None, tuple[Path, ...]] = {}
    for path in sorted(folder.iterdir()):
        if match := single.fullmatch(path.name):
            if not re.search(r"\d+-of-\d+$", path.stem):
                found[match["variant"]] = (path,)
        elif match := index.fullmatch(path.name):
            found.setdefault(match["variant"], _shards(path))
    if not found:
        return None
    ranks = {variant: i for i, variant in enumerate(_PREFERRED)}
    variant = min(found, key=lambda name: (ranks.get(name, len(ranks)), name or ""))
    _report_ema(folder, variant, found)
    return WeightFiles(variant, found[variant])


def check_weights(weights: WeightFiles, folder: Path) -> None:
    """Checks a component's weight files and configuration.

    Raises:
        EffaceError: a file is damaged, quantized, or holds adapter layers.
    """
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    if isinstance(config, dict) and config.get("quantization_config"):
        raise EffaceError(
            f"{folder} is quantized (quantization_config in its config.json), which is not supported: "
            "give the model in float32, bfloat16 or float16"
        )
    for path in weights.files:
        header = read_header(path)
        check_no_adapter(header.shapes, folder)
        check_full_precision(header)


def _shards(index: Path) -> tuple[Path, ...]:
    """Returns the files that an index of shards names."""
    content = read_json(index)
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not names:
        raise EffaceError(f"{index} names no weight files (weight_map): save the whole pipeline again")
    files = tuple(index.parent / name for name in sorted({str(name) for name in names.values()}))
    if missing := next((path for path in files if not path.is_file()), None):
        raise EffaceError(f"{index.parent} lacks {missing.name}, which its {index.name} names: download it again")
    return files


def _report_ema(folder: Path, variant: str | None, found: Mapping[str | None, object]) -> None:
    """Warns which weights are read where a folder holds EMA beside other weights."""
    if others := [name for name in found if name and "ema" in name.lower() and name != variant]:
        chosen = "the weights without a variant" if variant is None else f"the variant {variant!r}"
        warnings.warn(f"{folder} holds the variant {others[0]!r} too; read are {chosen}", stacklevel=2)
