"""Small modules inserted at a layer by one hook: membranes (LoRA) and erasers, each scaled row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, gelu, linear

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
    """

    kind: str
    scale: float = 1.0
    transport: str = "sum"
    adapter: str = ""
    gate: PromptGate | None = None
    enabled: bool = True


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


Tensors = Mapping[str, Tensor]


class InsertedLayer:
    """All modules inserted at one layer, run by one hook behind it.

    Membranes add ``up(down(x))`` of the layer's input, erasers ``up(gelu(down(y)))`` of its output y; each reads the
    layer's own input and output, so that the order of insertions does not matter. Where all rows have one strength,
    `merged` gives W + sum_i gamma_i up_i down_i, which the layer reads for a pass at no cost a step.

    Args:
        layer: the layer.
        strengths: the strengths of the present pass.

    Attributes:
        is_merged: whether the layer reads `merged` at present, so that the hook adds no membranes.
    """

    def __init__(self, layer: nn.Module, strengths: RowStrengths) -> None:
        self.layer: Any = layer
        self.strengths = strengths
        self.members: list[tuple[Insertion, Tensors]] = []
        self.is_merged = False
        self._stacks: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        self._handle = layer.register_forward_hook(self._hook)

    @property
    def mergeable(self) -> bool:
        """Whether every module here is a membrane that acts and is not trained, and the layer reads its own weight."""
        return isinstance(self.layer._parameters.get("weight"), nn.Parameter) and all(
            insertion.enabled and insertion.kind == "membrane" and not tensors["up"].requires_grad
            for insertion, tensors in self.members
        )

    @torch.no_grad()
    def merged(self) -> Tensor:
        """Computes the weight with all membranes at their strengths, in float32 at least."""
        weight = self.layer.weight
        wide = torch.promote_types(weight.dtype, torch.float32)
        change = torch.zeros_like(weight, dtype=wide).flatten(1)
        for transport in ("sum", "product"):
            members = [member for member in self.members if member[0].transport == transport]
            if not members:
                continue
            down, up = (factor.flatten(1).to(wide) for factor in self._stack(members, weight))
            columns = self.strengths.columns([(insertion, len(t["down"])) for insertion, t in members])
            gamma = torch.ones(len(down), dtype=wide, device=down.device) if columns is None else columns[0].to(wide)
            if transport == "sum":
                change += (up * gamma) @ down
            else:
                change += torch.outer(up @ gamma, gamma @ down)
        return (weight.to(wide) + change.view_as(weight)).to(weight.dtype)

    def add(self, insertion: Insertion, tensors: Tensors) -> None:
        """Inserts an edit's module."""
        self.members.append((insertion, tensors))
        self._stacks.clear()

    def remove(self, insertion: Insertion) -> None:
        """Removes an edit's module; the hook goes with the last."""
        self.members[:] = [member for member in self.members if member[0] is not insertion]
        self._stacks.clear()
        if not self.members:
            self._handle.remove()

    def _hook(self, _layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        changed = output
        for transport in () if self.is_merged else ("sum", "product"):
            members = [
                member
                for member in self.members
                if member[0].enabled and member[0].kind == "membrane" and member[0].transport == transport
            ]
            if members:
                changed = self._membranes(transport, members, args[0], changed)
        for insertion, tensors in self.members:
            if insertion.enabled and insertion.kind == "eraser":
                changed = changed + self._eraser(insertion, tensors, output)
        return changed

    def _membranes(
        self, transport: str, members: Sequence[tuple[Insertion, Tensors]], x: Tensor, output: Tensor
    ) -> Tensor:
        down, up = self._stack(members, x)
        gamma = self.strengths.columns([(insertion, len(t["down"])) for insertion, t in members])
        hidden = self._down(x, down)
        channel_axis = 1 if isinstance(self.layer, nn.Conv2d) else -1
        if gamma is not None:
            hidden = hidden * _on_axis(gamma, hidden, channel_axis)
        if transport == "product":
            up_rows = up.sum(1)[None] if gamma is None else gamma @ up.T
            return output + hidden.sum(channel_axis, keepdim=True) * _on_axis(up_rows, output, channel_axis)
        if channel_axis == 1:
            return output + conv2d(hidden, up[:, :, None, None])
        flat = torch.addmm(output.flatten(0, -2), hidden.flatten(0, -2), up.T)
        return flat.view_as(output)

    def _down(self, x: Tensor, down: Tensor) -> Tensor:
        if isinstance(self.layer, nn.Conv2d):
            own = self.layer
            return conv2d(x, down, None, own.stride, own.padding, own.dilation)  # type: ignore[arg-type]
        return linear(x, down)

    def _stack(self, members: Sequence[tuple[Insertion, Tensors]], x: Tensor) -> tuple[Tensor, Tensor]:
        """Joins the factors of several membranes: down ``(R, i)`` and up ``(o, R)`` with the scales in it."""
        key = tuple(id(insertion) for insertion, _ in members)
        known = self._stacks.get(key)
        if known is not None and known[0].dtype == x.dtype and known[0].device == x.device:
            return known
        kernel = self.layer.weight.shape[1:]
        downs = [t["down"].reshape(-1, *kernel).to(x) for _, t in members]
        ups = [insertion.scale * t["up"].flatten(1).to(x) for insertion, t in members]
        stack = (torch.cat(downs), torch.cat(ups, 1))
        if not any(tensor.requires_grad for tensor in stack):  # tensors in training change at every step
            self._stacks[key] = stack
        return stack

    def _eraser(self, insertion: Insertion, tensors: Tensors, output: Tensor) -> Tensor:
        weights = {role: tensor.to(output) for role, tensor in tensors.items()}
        hidden = gelu(linear(output, weights["down.weight"], weights["down.bias"]))
        added = linear(hidden, weights["up.weight"], weights["up.bias"])
        gamma = self.strengths.columns([(insertion, 1)])
        return added if gamma is None else added * gamma[:, :, None]


def _on_axis(values: Tensor, like: Tensor, channel_axis: int) -> Tensor:
    """Reshapes ``(N, C)`` so that it multiplies a tensor with C on the channel axis."""
    shape = [len(values), *(1 for _ in like.shape[1:])]
    shape[channel_axis] = values.shape[1]
    return values.reshape(shape).to(like.dtype)
