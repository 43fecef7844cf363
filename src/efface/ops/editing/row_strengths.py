"""What an edit inserts into a component, and how strong it is in each row of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from efface.models.guidance_hooks import PromptGate

KINDS = ("membrane", "eraser", "autoencoder")
"""Kinds of modules that a ``module`` edit inserts."""
ROLES = {
    "membrane": ("down", "up"),
    "eraser": ("down.weight", "down.bias", "up.weight", "up.bias"),
    "autoencoder": ("encoder", "encoder_bias", "decoder", "decoder_bias", "features"),
}
"""Tensors of each kind, by the end of their role after the layer's name."""


@dataclass(eq=False)
class Insertion:
    """The modules that one edit inserts into a component.

    Attributes:
        kind: one of `KINDS`.
        scale: multiplies a membrane's output.
        transport: ``sum`` adds every membrane's output; ``product`` multiplies the sums of all such membranes' factors.
        adapter: name under which samplers switch the modules off; empty for modules that are always on.
        gate: strength by prompt; None for 1.
        enabled: whether the modules act at all.
        record: receives the output of each eraser, in the order of the layers; None for no record.
    """

    kind: str
    scale: float = 1.0
    transport: str = "sum"
    adapter: str = ""
    gate: PromptGate | None = None
    enabled: bool = True
    record: list[Tensor] | None = None


@dataclass(eq=False)
class RowStrengths:
    """The strengths of insertions in the rows of the present pass; the hook before the pass fills it.

    Attributes:
        values: by insertion, ``(N,)``; an insertion that is not in it has strength 1.
        uniform: whether every insertion has one strength in all rows.
    """

    values: dict[Insertion, Tensor] = field(default_factory=dict)
    uniform: bool = True
    _columns: dict[tuple[int, ...], Tensor] = field(default_factory=dict)

    def set(self, values: dict[Insertion, Tensor]) -> None:
        """Sets the strengths of the next passes."""
        self.values, self._columns = values, {}
        self.uniform = all(bool((value == value[0]).all()) for value in values.values())

    def columns(self, members: Sequence[tuple[Insertion, int]]) -> Tensor | None:
        """Returns the strengths ``(N, R)`` of R columns: each insertion's as often as it has columns; None for ones."""
        if not self.values:
            return None
        key = tuple(id(insertion) for insertion, _ in members)
        if key not in self._columns:
            template = next(iter(self.values.values()))
            ones = torch.ones_like(template)
            parts = [self.values.get(insertion, ones)[:, None].expand(-1, count) for insertion, count in members]
            self._columns[key] = torch.cat(parts, dim=1)
        return self._columns[key]
