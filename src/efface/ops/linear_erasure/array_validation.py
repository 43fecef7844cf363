"""Arrays in, arrays of the same kind out; and what every eraser says of input that it cannot use."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from efface.core.errors import EffaceError

Array = Tensor | np.ndarray[Any, Any]


def vectors(X: Array, width: int | None = None) -> Tensor:
    """X ``(N, D)`` as a float64 tensor.

    Raises:
        EffaceError: not a matrix, empty, not finite, or of another width than the eraser was fitted on.
    """
    tensor = torch.as_tensor(X).detach().to(torch.float64)
    if tensor.ndim != 2 or not tensor.numel():
        raise EffaceError(f"X must be vectors (N, D) with at least one of them, not of shape {list(tensor.shape)}")
    if width is not None and tensor.shape[1] != width:
        raise EffaceError(
            f"X is {tensor.shape[1]} wide and the eraser was fitted on {width}: give vectors of that width"
        )
    if not torch.isfinite(tensor).all():
        raise EffaceError("X holds NaN or infinite numbers: take those rows out")
    return tensor


def like(result: Tensor, X: Array) -> Array:
    """The result as X's kind, on its device and, where X holds floats, in its precision."""
    wanted = torch.as_tensor(X)
    tensor = result.to(wanted.device, wanted.dtype if wanted.is_floating_point() else result.dtype)
    return tensor if isinstance(X, Tensor) else tensor.numpy()


def targets(z: Array, count: int, device: torch.device) -> Tensor:
    """Z as a tensor: integer labels ``(N,)``, or numbers ``(N, K)`` in float64.

    Raises:
        EffaceError: another length than X, another shape, or not finite.
    """
    tensor = torch.as_tensor(z).detach().to(device)
    if tensor.ndim not in (1, 2) or not tensor.numel():
        raise EffaceError(f"z must be labels (N,) or numbers (N, K), not of shape {list(tensor.shape)}")
    if len(tensor) != count:
        raise EffaceError(f"X has {count} rows and z has {len(tensor)}: give one label for each vector")
    if tensor.is_floating_point():
        if not torch.isfinite(tensor).all():
            raise EffaceError("z holds NaN or infinite numbers: take those rows out")
        return tensor.to(torch.float64).reshape(count, -1)
    return tensor.long() if tensor.ndim == 1 else tensor.to(torch.float64)


def labels(z: Array, count: int, device: torch.device) -> tuple[Tensor, list[int]]:
    """Z as class indices ``(N,)`` of the sorted classes, and these; whole numbers in floats count as labels.

    Raises:
        EffaceError: numbers that are no labels, or one class only.
    """
    tensor = targets(z, count, device)
    if tensor.ndim == 2 and (tensor.shape[1] > 1 or bool((tensor != tensor.round()).any())):
        raise EffaceError("z must be class labels (N,), whole numbers: only LEACE erases numbers")
    classes, index = tensor.reshape(-1).long().unique(return_inverse=True)
    if len(classes) < 2:
        raise EffaceError(f"z has one class only ({int(classes[0])}): give vectors of at least two classes")
    return index, classes.tolist()
