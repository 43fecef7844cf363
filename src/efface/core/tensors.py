"""Tensors as bytes, and the safetensors format. Reads and writes it without torch, so that bfloat16 is preserved.

A file has eight bytes with the header's length (little-endian), a JSON header ``{name: {dtype, shape, data_offsets}}``,
and the data. Files written here store the widest dtypes first and sort names of one width, so that every tensor is
aligned and equal tensors give equal bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .errors import CorruptArtifactError, EffaceError
from .io import user_file_errors

_NUMPY = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "F16": "<f2", "U32": "<u4", "I32": "<i4",
    "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8", "C64": "<c8",
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in _NUMPY.items()}
WIDTH = {**{name: np.dtype(code).itemsize for name, code in _NUMPY.items()}, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
"""Bytes per element, by safetensors' name of the dtype."""
_LONGEST_HEADER = 100_000_000  # as in the reference implementation
_METADATA = "__metadata__"


@dataclass(frozen=True)
class TensorBlob:
    """A tensor as little-endian, row-major bytes; torch's bfloat16 is stored as ``TensorBlob("BF16", shape, bytes)``.

    Attributes:
        dtype: safetensors' name of the dtype (a key of `WIDTH`).
        shape: the shape; ``()`` for a scalar.
        data: the elements, as any object with the buffer interface, so that no copy is needed.

    Raises:
        EffaceError: an unknown dtype, or bytes that do not match the shape.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))
        if self.dtype not in WIDTH:
            raise EffaceError(f"a tensor of dtype {self.dtype!r} cannot be saved: use {', '.join(sorted(WIDTH))}")
        size = memoryview(self.data).nbytes
        if size != math.prod(self.shape) * WIDTH[self.dtype]:
            raise EffaceError(f"{size} bytes do not fit a {self.dtype} tensor of shape {self.shape}")

    @classmethod
    def of(cls, tensor: NDArray[Any] | TensorBlob) -> TensorBlob:
        """Makes a blob from a numpy array of any byte order or strides; returns a blob unchanged."""
        if isinstance(tensor, TensorBlob):
            return tensor
        array = np.asarray(tensor)
        name = _NAMES.get(array.dtype.newbyteorder("<"))
        if name is None:
            raise EffaceError(f"an array of dtype {array.dtype} cannot be saved: use {', '.join(sorted(_NUMPY))}")
        flat = array.astype(_NUMPY[name], order="C", copy=False).reshape(-1)
        return cls(name, array.shape, flat.view(np.uint8).data)

    def numpy(self) -> NDArray[Any]:
        """Returns a read-only numpy array; BF16 becomes float32 of equal value.

        Raises:
            EffaceError: another dtype that numpy lacks.
        """
        if self.dtype == "BF16":
            return (np.frombuffer(self.data, "<u2").astype("<u4") << 16).view("<f4").reshape(self.shape)
        if self.dtype not in _NUMPY:
            raise EffaceError(f"numpy has no dtype {self.dtype}: read the bytes instead")
        return np.frombuffer(self.data, _NUMPY[self.dtype]).reshape(self.shape)


Tensor = NDArray[Any] | TensorBlob


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a safetensors file without copying the tensors; not atomic, meant for use inside `atomic_folder`.

    The metadata always includes ``format: pt``, which transformers and diffusers require.
    """
    path = Path(path)
    blobs = {name: TensorBlob.of(tensor) for name, tensor in tensors.items()}
    names = sorted(blobs, key=lambda name: (-WIDTH[blobs[name].dtype], name))
    header: dict[str, Any] = {_METADATA: dict(sorted({"format": "pt", **(metadata or {})}.items()))}
    offset = 0
    for name in names:
        if not name or name == _METADATA:
            raise EffaceError(f"a tensor cannot be called {name!r}")
        end = offset + memoryview(blobs[name].data).nbytes
        header[name] = {"dtype": blobs[name].dtype, "shape": list(blobs[name].shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with user_file_errors(path), open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            file.write(blobs[name].data)


class TensorFile(Mapping[str, TensorBlob]):
    """A safetensors file as a mapping; checks the header at once and reads a tensor on access.

    Raises:
        CorruptArtifactError: not a valid safetensors file.
        EffaceError: a file that cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with user_file_errors(self.path, "read"), open(self.path, "rb") as file:
            self._start, header = read_header(file, self.path)
        self.metadata: dict[str, str] = header.pop(_METADATA, {})
        size = self.path.stat().st_size - self._start
        self._entries = {name: _entry(name, item, self.path) for name, item in header.items()}
        _check_coverage(self._entries, size, self.path)

    def __getitem__(self, name: str) -> TensorBlob:
        dtype, shape, begin, end = self._entries[name]
        with user_file_errors(self.path, "read"), open(self.path, "rb") as file:
            file.seek(self._start + begin)
            return TensorBlob(dtype, shape, file.read(end - begin))

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


_NOT_A_HEADER = {
    b"version ": "it is a Git LFS pointer: fetch the file itself with `git lfs pull`",
    b"<!DOCTYP": "it is a web page: download the file itself",
    b"<!doctyp": "it is a web page: download the file itself",
}
"""What a file is, by its first eight bytes."""
_Entry = tuple[str, tuple[int, ...], int, int]


def _corrupt(path: Path, reason: str) -> CorruptArtifactError:
    return CorruptArtifactError(f"{path} is not a valid safetensors file: {reason}")


def read_header(file: BinaryIO, path: Path) -> tuple[int, dict[str, Any]]:
    """Returns the position of the data and the header."""
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if length > _LONGEST_HEADER:
        raise _corrupt(path, _NOT_A_HEADER.get(start[:8], "it does not start with a header (efface reads no pickles)"))
    text = file.read(length)
    if len(text) < length or not length:
        raise _corrupt(path, "it was cut short")
    try:
        header = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise _corrupt(path, "its header is not JSON") from error
    if not isinstance(header, dict) or not isinstance(header.get(_METADATA, {}), dict):
        raise _corrupt(path, "its header is not a mapping")
    return 8 + length, header


def _entry(name: str, item: object, path: Path) -> _Entry:
    """Returns dtype, shape, begin and end of one tensor from its header entry."""
    try:
        fields = item if isinstance(item, dict) else {}
        dtype, shape, (begin, end) = fields["dtype"], tuple(fields["shape"]), fields["data_offsets"]
        are_sizes = all(type(size) is int and size >= 0 for size in (*shape, begin, end))
        is_valid = are_sizes and math.prod(shape) * WIDTH[dtype] == end - begin
    except (KeyError, TypeError, ValueError) as error:
        raise _corrupt(path, f"its header entry of {name!r} is invalid") from error
    if not is_valid:
        raise _corrupt(path, f"the shape of {name!r} does not match its bytes")
    return dtype, shape, begin, end


def _check_coverage(entries: Mapping[str, _Entry], size: int, path: Path) -> None:
    """Checks that every byte belongs to exactly one tensor; a gap could hide data."""
    position = 0
    for name, (_, _, begin, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if begin != position:
            raise _corrupt(path, f"the bytes of {name!r} overlap others or leave a gap")
        position = end
    if position != size:
        raise _corrupt(path, f"it holds {size} bytes of data, its header lists {position}")
