"""Conversion of torch tensors: to and from an erasure's stored bytes, and of images to bytes."""

from __future__ import annotations

import torch
from torch import Tensor

from efface.core.errors import EffaceError
from efface.core.tensors import Tensor as StoredTensor
from efface.core.tensors import TensorBlob

_DTYPES = {
    "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64,
    "I64": torch.int64, "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def to_blob(tensor: Tensor, copy: bool = True) -> TensorBlob:
    """Converts a tensor, bfloat16 too, to bytes on the CPU.

    Args:
        tensor: any tensor of a supported dtype.
        copy: False shares memory with a contiguous tensor on the CPU; later changes then change the bytes.

    Raises:
        EffaceError: a dtype that cannot be saved.
    """
    contiguous = tensor.detach().cpu().contiguous()
    if contiguous.dtype not in _NAMES:
        raise EffaceError(f"a tensor of dtype {contiguous.dtype} cannot be saved; supported: {', '.join(_DTYPES)}")
    data = contiguous.reshape(-1).view(torch.uint8).numpy()
    return TensorBlob(_NAMES[contiguous.dtype], tuple(contiguous.shape), data.tobytes() if copy else data.data)


def to_image_bytes(images: Tensor) -> Tensor:
    """Converts images in [0, 1] to bytes of the same shape on the CPU."""
    return (images * 255 + 0.5).clamp(0, 255).to(torch.uint8).cpu()


def to_torch(stored: StoredTensor) -> Tensor:
    """Converts a stored tensor to a new torch tensor on the CPU with the stored dtype.

    Raises:
        EffaceError: a dtype that torch does not have.
    """
    blob = TensorBlob.of(stored)
    if blob.dtype not in _DTYPES:
        raise EffaceError(f"a tensor of dtype {blob.dtype} cannot be used; supported: {', '.join(_DTYPES)}")
    data = bytearray(blob.data)
    flat = torch.frombuffer(data, dtype=_DTYPES[blob.dtype]) if data else torch.empty(0, dtype=_DTYPES[blob.dtype])
    return flat.reshape(blob.shape)
