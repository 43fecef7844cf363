"""Conversion and validation of the erasers' input arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from efface.core.errors import EffaceError

Array = Tensor | np.ndarray[Any, Any]


def to_vectors(X: Array, width: int | None = None) -> Tensor:
    """Converts X ``(N, D)`` to a float64 tensor.

    Raises:
        EffaceError: not a matrix, empty, not finite, or not of the width that the eraser was fitted on.
    """
    tensor = torch.as_tensor(X).detach().to(torch.float64)
    if tensor.ndim != 2 or not tensor.numel():
        raise EffaceError(f"X must be vectors (N, D) with at least one of them, not of shape {list(tensor.shape)}")
    if width is not None and tensor.shape[1] != width:
        raise EffaceError(
            f"X is {tensor.shape[1]} wide and the eraser was fitted on {width}: give vectors of that width"
        )
    if not torch.isfinite(tensor).all():
        raise EffaceError("X holds NaN or infinite numbers: remove those rows")
    return tensor


def restore_type(result: Tensor, X: Array) -> Array:
    """Converts a result to the type and device of X and, if X holds floats, to its precision."""
    template = torch.as_tensor(X)
    dtype = template.dtype if template.is_floating_point() else result.dtype
    tensor = result.to(template.device, dtype)
    return tensor if isinstance(X, Tensor) else tensor.numpy()


def to_targets(z: Array, count: int, device: torch.device) -> Tensor:
    """Converts z to a tensor of integer labels ``(N,)``, or of float64 numbers ``(N, K)``.

    Raises:
        EffaceError: not of X's length ``count``, another shape, or not finite.
    """
    tensor = torch.as_tensor(z).detach().to(device)
    if tensor.ndim not in (1, 2) or not tensor.numel():
        raise EffaceError(f"z must be labels (N,) or numbers (N, K), not of shape {list(tensor.shape)}")
    if len(tensor) != count:
        raise EffaceError(f"X has {count} rows and z has {len(tensor)}: give one label for each vector")
    if tensor.is_floating_point():
        if not torch.isfinite(tensor).all():
            raise EffaceError("z holds NaN or infinite numbers: remove those rows")
        return tensor.to(torch.float64).reshape(count, -1)
    return tensor.long() if tensor.ndim == 1 else tensor.to(torch.float64)


def to_class_indices(z: Array, count: int, device: torch.device) -> tuple[Tensor, list[int]]:
    """Converts z to class indices ``(N,)``, and returns the sorted classes; whole numbers in floats count as labels.

    Raises:
        EffaceError: numbers that are no labels, or only one class.
    """
    tensor = to_targets(z, count, device)
    if tensor.ndim == 2 and (tensor.shape[1] > 1 or bool((tensor != tensor.round()).any())):
        raise EffaceError("z must be class labels (N,), whole numbers: only LEACE erases numbers")
    classes, index = tensor.reshape(-1).long().unique(return_inverse=True)
    if len(classes) < 2:
        raise EffaceError(f"z has one class only ({int(classes[0])}): give vectors of at least two classes")
    return index, classes.tolist()
