"""Reads the headers of safetensors files, without torch, and refuses files whose weights would be misread."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from efface.core.errors import CorruptArtifactError, EffaceError
from efface.core.io import user_file_errors

_QUANTIZED = re.compile(
    r"(^|\.)(scaled_fp8|comfy_quant|quant_map|quant_state|nested_absmax|absmax|SCB|weight_format|qweight|qzeros|g_idx|"
    r"scale_weight|scale_input|weight_scale|input_scale|weight_scale_2|weight_zero_point|w?scales|zeros|zero_point)($|\.)"
)
"""Parts of the names of the tensors that hold a quantized weight's scales and codes."""
_INTEGERS = frozenset(
    {"BOOL", "I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "F4", "F6_E2M3", "F6_E3M2", "F8_E8M0"}
)
"""Types that no checkpoint uses for a weight that is not quantized."""
_SCALE = re.compile(r"(?<!logit_)scales?\b|scale[_.]")
"""A scale under any name; beside weights in 8-bit floats, the weights mean nothing without it."""
_ADAPTER = re.compile(r"(^|\.)(lora_[A-Za-z_]+|base_layer|hada_w\w+|lokr_w\w+|oft_R|oft_blocks)($|\.)|^lora_|\.lora\.")


@dataclass(frozen=True)
class WeightHeader:
    """The header of a safetensors file.

    Attributes:
        path: the file.
        shapes: shape by tensor name.
        dtypes: safetensors' name of the type, such as ``F16``, by tensor name.
        metadata: the file's own texts.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    metadata: Mapping[str, str]


def read_header(path: Path) -> WeightHeader:
    """Reads the header of a safetensors file and compares the file's length with it.

    Raises:
        EffaceError: the file cannot be read, is not a safetensors file, is cut short, or holds bytes behind its
            tensors.
    """
    from efface.core.tensors import read_header as read_tensor_header  # imports numpy

    size = path.stat().st_size
    with user_file_errors(path, "read"), open(path, "rb") as file:
        start, header = read_tensor_header(file, path)
    metadata = {str(key): str(value) for key, value in header.pop("__metadata__", {}).items()}
    try:
        shapes = {name: tuple(int(n) for n in entry["shape"]) for name, entry in header.items()}
        dtypes = {name: str(entry["dtype"]) for name, entry in header.items()}
        end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise CorruptArtifactError(f"{path} is not a valid safetensors file: download or save it again") from error
    surplus = size - (start + end)
    if surplus < 0:
        raise CorruptArtifactError(f"{path} was cut short: it lacks {-surplus} bytes; download or save it again")
    if surplus > 0:
        raise EffaceError(
            f"{path} is {surplus} bytes longer than its header says: download it again, or cut them off with "
            f"`truncate -s -{surplus} {path.name}`"
        )
    return WeightHeader(path, shapes, dtypes, metadata)


def check_full_precision(header: WeightHeader) -> None:
    """Refuses quantized weights: read without their scales they would be other weights.

    Raises:
        EffaceError: the file holds scales, codes or weights in integers.
    """
    has_short_floats = any(dtype.startswith("F8_") for dtype in header.dtypes.values())
    found = next(
        (
            f"{name}, {dtype}"
            for name, dtype in header.dtypes.items()
            if _QUANTIZED.search(name) or _is_integer_weight(name, header) or (has_short_floats and _SCALE.search(name))
        ),
        None,
    )
    found = found or next((f"{key} in its metadata" for key in header.metadata if "quantiz" in key.lower()), None)
    if found:
        raise EffaceError(
            f"{header.path} holds quantized weights (such as {found}), which are not supported: "
            "give the model in float32, bfloat16 or float16"
        )


def _is_integer_weight(name: str, header: WeightHeader) -> bool:
    return header.dtypes[name] in _INTEGERS and len(header.shapes[name]) > 0 and not name.endswith("position_ids")


def check_no_adapter(names: Iterable[str], where: str | Path) -> None:
    """Refuses weights with adapter layers, whose base weights have other names than a plain model's.

    Raises:
        EffaceError: a name is an adapter's.
    """
    if name := next((name for name in names if _ADAPTER.search(name)), None):
        raise EffaceError(
            f"{where} holds adapter layers (such as {name}): merge them with pipe.fuse_lora(), "
            "pipe.unload_lora_weights() or model.merge_and_unload(), and save again"
        )
