"""A double of offloading for machines without an accelerator: weights that lie on the CPU become NaN."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from efface.models.placement import Placement


class PoisonedPlacement:
    """Replaces the moves of `Placement`: a pass or a gradient that reads an evicted component's weights gives NaN.

    Like ``Module.to``, a move gives the same parameters a new storage.

    Attributes:
        moves: every move in order, as ``"text_encoder in"`` or ``"vae out"``.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.moves: list[str] = []
        self._kept: dict[Tensor, Tensor] = {}
        monkeypatch.setattr(Placement, "to_device", lambda placement, module: self._bring(placement, module))
        monkeypatch.setattr(Placement, "to_cpu", lambda placement, module: self._evict(placement, module))

    def _bring(self, placement: Placement, module: nn.Module) -> None:
        self.moves.append(f"{_name(placement, module)} in")
        for tensor in _tensors(module):
            tensor.data = self._kept.pop(tensor).clone()

    def _evict(self, placement: Placement, module: nn.Module) -> None:
        self.moves.append(f"{_name(placement, module)} out")
        for tensor in _tensors(module):
            self._kept[tensor] = tensor.data
            tensor.data = torch.full_like(tensor, float("nan"))


def _name(placement: Placement, module: nn.Module) -> str:
    return next(name for name, other in placement._modules.items() if other is module)


def _tensors(module: nn.Module) -> list[Any]:
    """Every floating-point parameter and buffer once."""
    every = chain(module.parameters(), module.buffers())
    return list({tensor: None for tensor in every if tensor.is_floating_point()})
