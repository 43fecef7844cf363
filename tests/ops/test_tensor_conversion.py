"""Conversion of tensors to bytes and back."""

from __future__ import annotations

import pytest
import torch

from efface.core.errors import EffaceError
from efface.ops.tensor_conversion import to_blob, to_torch

TENSORS = (torch.arange(6).reshape(2, 3), torch.arange(6).reshape(3, 2).T, torch.zeros(()), torch.zeros(0, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.uint8])
@pytest.mark.parametrize("tensor", TENSORS, ids=["contiguous", "transposed", "scalar", "empty"])
def test_a_tensor_survives_the_conversion(dtype: torch.dtype, tensor: torch.Tensor) -> None:
    converted = tensor.to(dtype)
    restored = to_torch(to_blob(converted))
    assert restored.dtype == dtype
    assert torch.equal(restored, converted)


def test_a_copy_is_independent_of_the_tensor() -> None:
    tensor = torch.zeros(3)
    copied, shared = to_blob(tensor), to_blob(tensor, copy=False)
    tensor += 1
    assert to_torch(copied).tolist() == [0, 0, 0]
    assert to_torch(shared).tolist() == [1, 1, 1]


def test_complex_tensors_are_refused() -> None:
    with pytest.raises(EffaceError, match="cannot be saved"):
        to_blob(torch.zeros(1, dtype=torch.complex64))
