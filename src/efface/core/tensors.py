"""Tensors as bytes and the safetensors format, read and written here so that bfloat16 survives without torch.

The format: eight bytes with the header's length (little-endian), a JSON header ``{name: {dtype, shape, data_offsets}}``, the data.
Files written here have the widest dtypes first and names sorted within one width, so that every tensor is aligned and equal
tensors give equal bytes.
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
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "F16": "<f2", "U32": "<u4", "I32": "<i4", "F32": "<f4",
    "U64": "<u8", "I64": "<i8", "F64": "<f8", "C64": "<c8",
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in _NUMPY.items()}
WIDTH = {**{name: np.dtype(code).itemsize for name, code in _NUMPY.items()}, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
"""Bytes per element by safetensors' name of the dtype."""
_LONGEST_HEADER = 100_000_000  # as in the reference implementation
_METADATA = "__metadata__"


@dataclass(frozen=True)
class TensorBlob:
    """A tensor as little-endian, row-major bytes; torch's bfloat16 passes through as ``TensorBlob("BF16", shape, bytes)``.

    Attributes:
        dtype: safetensors' name of the dtype (a key of `WIDTH`).
        shape: the shape; ``()`` for a scalar.
        data: the elements; anything with the buffer interface will do, so that no copy is needed.

    Raises:
        EffaceError: an unknown dtype, or bytes that do not match the shape.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))
        if self.dtype not in WIDTH:
            raise EffaceError(f"a tensor of dtype {self.dtype!r} cannot be saved; there are {', '.join(sorted(WIDTH))}")
        if memoryview(self.data).nbytes != math.prod(self.shape) * WIDTH[self.dtype]:
            raise EffaceError(f"{memoryview(self.data).nbytes} bytes are no {self.dtype} tensor of shape {self.shape}")

    @classmethod
    def of(cls, tensor: NDArray[Any] | TensorBlob) -> TensorBlob:
        """A blob from a numpy array of any byte order or strides (no copy where none is needed), or the blob itself."""
        if isinstance(tensor, TensorBlob):
            return tensor
        array = np.asarray(tensor)
        name = _NAMES.get(array.dtype.newbyteorder("<"))
        if name is None:
            raise EffaceError(f"an array of dtype {array.dtype} cannot be saved; there are {', '.join(sorted(_NUMPY))}")
        flat = array.astype(_NUMPY[name], order="C", copy=False).reshape(-1)
        return cls(name, array.shape, flat.view(np.uint8).data)

    def numpy(self) -> NDArray[Any]:
        """The read-only numpy array; BF16 becomes the float32 of equal value (other dtypes that numpy lacks raise `EffaceError`)."""
        if self.dtype == "BF16":
            return (np.frombuffer(self.data, "<u2").astype("<u4") << 16).view("<f4").reshape(self.shape)
        if self.dtype not in _NUMPY:
            raise EffaceError(f"numpy has no {self.dtype}: read the bytes instead")
        return np.frombuffer(self.data, _NUMPY[self.dtype]).reshape(self.shape)


Tensor = NDArray[Any] | TensorBlob


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a safetensors file without copying the tensors; not atomic: meant for the inside of `atomic_folder`.

    The metadata always says ``format: pt``, which transformers and diffusers ask for.
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
    """A safetensors file as a mapping; the header is read and checked at once, a tensor when it is asked for.

    Raises:
        DamagedArtifact: not a sound safetensors file.
        EffaceError: a file that cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with user_file_errors(self.path, "read"), open(self.path, "rb") as file:
            self._start, header = _read_header(file, self.path)
        self.metadata: dict[str, str] = header.pop(_METADATA, {})
        size = self.path.stat().st_size - self._start
        self._entries = {name: _entry(name, item, self.path) for name, item in header.items()}
        _check_coverage(self._entries, size, self.path)

    def dtype(self, name: str) -> str:
        """Safetensors' name of a tensor's dtype."""
        return self._entries[name][0]

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape."""
        return self._entries[name][1]

    def __getitem__(self, name: str) -> TensorBlob:
        dtype, shape, begin, end = self._entries[name]
        with user_file_errors(self.path, "read"), open(self.path, "rb") as file:
            file.seek(self._start + begin)
            return TensorBlob(dtype, shape, file.read(end - begin))

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


_Entry = tuple[str, tuple[int, ...], int, int]


def _corrupt(path: Path, why: str) -> CorruptArtifactError:
    return CorruptArtifactError(f"{path} is not a sound safetensors file: {why}")


def _read_header(file: BinaryIO, path: Path) -> tuple[int, dict[str, Any]]:
    """Where the data starts and the header."""
    length = int.from_bytes(file.read(8), "little")
    if length > _LONGEST_HEADER:
        raise _corrupt(path, "it does not start with a header (is it a pickle? efface reads none)")
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
    """Dtype, shape, begin and end of one tensor, from its place in the header."""
    try:
        fields = item if isinstance(item, dict) else {}
        dtype, shape, (begin, end) = fields["dtype"], tuple(fields["shape"]), fields["data_offsets"]
        whole = all(type(size) is int and size >= 0 for size in (*shape, begin, end))
        sound = whole and math.prod(shape) * WIDTH[dtype] == end - begin
    except (KeyError, TypeError, ValueError) as error:
        raise _corrupt(path, f"its entry of {name!r} cannot be understood") from error
    if not sound:
        raise _corrupt(path, f"shape and bytes of {name!r} do not match")
    return dtype, shape, begin, end


def _check_coverage(entries: Mapping[str, _Entry], size: int, path: Path) -> None:
    """Every byte must belong to exactly one tensor: no overlap, no hole to hide something in."""
    position = 0
    for name, (_, _, begin, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if begin != position:
            raise _corrupt(path, f"the bytes of {name!r} overlap others or leave a hole")
        position = end
    if position != size:
        raise _corrupt(path, f"it holds {size} bytes of data where its header says {position}")
