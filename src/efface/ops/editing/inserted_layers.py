"""Small modules inserted at a layer by one hook: membranes (LoRA) and erasers, each scaled row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, gelu, linear

from efface.models.quantization import is_quantized, matrix_shape

from .row_strengths import Insertion, RowStrengths

Tensors = Mapping[str, Tensor]


class InsertedLayer:
    """All modules inserted at one layer, run by one hook behind it.

    Membranes add ``up(down(x))`` of the layer's input, erasers ``up(gelu(down(y)))`` of its output y; each reads the
    layer's own input and output, so that the order of insertions does not matter. Where all rows have one strength,
    `merge` lets the layer read W + sum_i gamma_i up_i down_i for a pass, at no cost a step.

    Args:
        layer: the layer.
        strengths: the strengths of the present pass.
    """

    def __init__(self, layer: nn.Module, strengths: RowStrengths) -> None:
        self.layer: Any = layer
        self.strengths = strengths
        self.members: list[tuple[Insertion, Tensors]] = []
        self._is_quantized = is_quantized(layer)
        self._own: nn.Parameter | None = None
        self._merged: tuple[nn.Parameter, Tensor] | None = None
        self._stacks: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        self._handle = layer.register_forward_hook(self._hook)

    def is_mergeable(self) -> bool:
        """Returns whether every module here is a membrane that acts and is not trained, on a weight to replace."""
        return not self._is_quantized and all(
            insertion.enabled and insertion.kind == "membrane" and not tensors["up"].requires_grad
            for insertion, tensors in self.members
        )

    def merge(self) -> None:
        """Puts the merged weight in the place of the layer's own until `unmerge`; the parameter is not written to."""
        parameters = self.layer._parameters
        own = parameters.get("weight")
        if not isinstance(own, nn.Parameter):  # the pass has weights of its own, so that the hook adds the membranes
            return
        if self._merged is None or self._merged[0] is not own:
            self._merged = (own, self._merged_weight(own))
        parameters["weight"], self._own = self._merged[1], own
        hooks = self.layer._forward_hooks
        if len(hooks) == 1:  # ours alone; torch calls a layer without hooks faster
            del hooks[self._handle.id]

    def unmerge(self) -> None:
        """Lets the layer read its own weight again."""
        if self._own is None:
            return
        self.layer._parameters["weight"], self._own = self._own, None
        hooks = self.layer._forward_hooks
        if self._handle.id not in hooks:
            hooks[self._handle.id] = self._hook
            hooks.move_to_end(self._handle.id, last=False)

    def forget_merged(self) -> None:
        """Computes the merged weight again at the next `merge`."""
        self._merged = None

    @torch.no_grad()
    def _merged_weight(self, weight: Tensor) -> Tensor:
        """Computes the weight with all membranes at their strengths, in float32 at least."""
        wide = torch.promote_types(weight.dtype, torch.float32)
        merged = weight.flatten(1).to(wide)
        for transport in ("sum", "product"):
            members = [member for member in self.members if member[0].transport == transport]
            if not members:
                continue
            down, up = (factor.flatten(1).to(wide) for factor in self._stack(members, weight))
            columns = self.strengths.columns([(insertion, t["down"].shape[0]) for insertion, t in members])
            gamma = torch.ones(len(down), dtype=wide, device=down.device) if columns is None else columns[0].to(wide)
            if transport == "sum":
                merged = torch.addmm(merged, up * gamma, down)
            else:
                merged = torch.addr(merged, up @ gamma, gamma @ down)
        return merged.view_as(weight).to(weight.dtype)

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
        if self._own is not None:  # the weight is merged
            return output
        changed = output
        for transport in ("sum", "product"):
            members = [
                member
                for member in self.members
                if member[0].enabled and member[0].kind == "membrane" and member[0].transport == transport
            ]
            if members:
                changed = self._membranes(transport, members, args[0], changed)
        for insertion, tensors in self.members:
            if insertion.enabled and insertion.kind == "eraser":
                added = self._eraser(insertion, tensors, output)
                changed = changed + added
                if insertion.record is not None:
                    insertion.record.append(added)
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
        kernel = matrix_shape(self.layer, self.layer.weight)[1:]
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
