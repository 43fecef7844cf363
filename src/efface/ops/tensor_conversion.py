"""Between torch's tensors and the artifact's bytes."""

from __future__ import annotations

import torch
from torch import Tensor

from efface.core.errors import EffaceError
from efface.core.tensors import Tensor as Stored
from efface.core.tensors import TensorBlob

_DTYPES = {
    "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64,
    "I64": torch.int64, "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def to_blob(tensor: Tensor, copy: bool = True) -> TensorBlob:
    """A tensor as bytes, on the CPU, bfloat16 too; without a copy the bytes change with the tensor, where it is there and contiguous."""
    flat = tensor.detach().cpu().contiguous()
    if flat.dtype not in _NAMES:
        raise EffaceError(f"a tensor of dtype {flat.dtype} cannot be saved; there are {', '.join(_DTYPES)}")
    data = flat.reshape(-1).view(torch.uint8).numpy()
    return TensorBlob(_NAMES[flat.dtype], tuple(flat.shape), data.tobytes() if copy else data.data)


def to_torch(stored: Stored) -> Tensor:
    """A tensor on the CPU, of the stored dtype; a copy."""
    blob = TensorBlob.of(stored)
    if blob.dtype not in _DTYPES:
        raise EffaceError(f"a tensor of dtype {blob.dtype} cannot be used; there are {', '.join(_DTYPES)}")
    data = bytearray(blob.data)
    flat = torch.frombuffer(data, dtype=_DTYPES[blob.dtype]) if data else torch.empty(0, dtype=_DTYPES[blob.dtype])
    return flat.reshape(blob.shape)
