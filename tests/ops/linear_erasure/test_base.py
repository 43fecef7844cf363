"""The common interface of all erasers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers.labelled_vectors import vectors_with_labels
from torch import Tensor

from efface.core.errors import EffaceError
from efface.ops.linear_erasure import InlpEraser, LeaceEraser, RlaceEraser
from efface.ops.linear_erasure.base import LinearEraser

ERASERS: list[Callable[[], LinearEraser]] = [LeaceEraser, InlpEraser, lambda: RlaceEraser(1, steps=20, check_every=20)]


@pytest.mark.parametrize("make", ERASERS)
def test_the_result_has_the_type_of_the_input(make: Callable[[], LinearEraser]) -> None:
    x, y = vectors_with_labels(0)
    for array in (x.float(), x, x.numpy(), x.numpy().astype(np.float32)):
        labels: Any = y if isinstance(array, Tensor) else y.numpy()
        erased = make().fit_transform(array, labels)
        assert type(erased) is type(array)
        assert erased.dtype == array.dtype
        assert erased.shape == array.shape


INVALID: dict[str, tuple[Any, Any]] = {
    "one class only": (torch.randn(9, 3), torch.zeros(9, dtype=torch.long)),
    "X has 9 rows and z has 8": (torch.randn(9, 3), torch.arange(8) % 2),
    "NaN": (torch.full((9, 3), torch.nan), torch.arange(9) % 2),
    r"vectors \(N, D\)": (torch.randn(9), torch.arange(9) % 2),
}


@pytest.mark.parametrize("make", ERASERS)
@pytest.mark.parametrize("message", INVALID)
def test_invalid_input_is_refused_in_one_line(make: Callable[[], LinearEraser], message: str) -> None:
    with pytest.raises(EffaceError, match=message) as caught:
        make().fit(*INVALID[message])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", ERASERS)
def test_transform_needs_a_fit_of_the_same_width(make: Callable[[], LinearEraser]) -> None:
    x, y = vectors_with_labels(0)
    with pytest.raises(EffaceError, match="has not been fitted"):
        make().transform(x)
    with pytest.raises(EffaceError, match="7 wide and the eraser was fitted on 8"):
        make().fit(x, y).transform(x[:, :7])
