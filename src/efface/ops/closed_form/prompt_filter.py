"""A closed-form erasure as a filter of the states that the denoiser reads, which can be switched on and off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.models.editable import EditableModel
from efface.models.pipeline_parts import DENOISERS
from efface.models.protocol import Conditioning
from efface.ops.editing.forward_hooks import states_hook
from efface.ops.tensor_conversion import to_torch

from .to_edits import DOWN_TENSOR, LEFT_TENSOR


class PromptFilter:
    """Applies x -> (I + E) x to a prompt's states, which equals the edit of every layer.

    A call filters one conditioning. `applied` filters everything that the model's denoiser reads, including the empty
    prompt's states: classifier-free guidance needs this for the same images as with edited layers.

    Args:
        model: model whose denoiser reads the states.
        matrix: I + E, ``(d, d)``.
    """

    def __init__(self, model: EditableModel, matrix: Tensor) -> None:
        self._denoiser: nn.Module = model.components[model.parameter_group("reads_text").component]
        self.matrix = matrix
        self.active = True

    @classmethod
    def from_erasure(cls, model: EditableModel, erasure: Erasure) -> PromptFilter:
        """Returns the filter that is equivalent to a closed-form erasure.

        Raises:
            EffaceError: the erasure's layers do not share one E: only values are edited, or each layer differently.
        """
        return cls(model, shared_matrix(erasure))

    def __call__(self, cond: Conditioning) -> Conditioning:
        """Filters one conditioning."""
        return replace(cond, states=nn.functional.linear(cond.states, self.matrix.to(cond.states)))

    @contextmanager
    def applied(self) -> Iterator[PromptFilter]:
        """Filters everything that the denoiser reads in the body of the ``with``, except while `active` is False."""

        def change(states: Tensor) -> Tensor:
            return nn.functional.linear(states, self.matrix.to(states)) if self.active else states

        handle: Any = states_hook(self._denoiser, change)
        try:
            yield self
        finally:
            handle.remove()


def shared_matrix(erasure: Erasure) -> Tensor:
    """Returns I + E ``(d, d)`` of an erasure whose layers share one E.

    Raises:
        EffaceError: the layers do not share one E.
    """
    edit = erasure.edits[0] if len(erasure.edits) == 1 else None
    if edit is not None and edit.op == "state" and edit.component in DENOISERS and set(edit.tensors) == {"matrix"}:
        return to_torch(erasure.tensors[edit.tensors["matrix"]])
    if edit is None or edit.op != "low_rank" or LEFT_TENSOR not in erasure.tensors:
        raise EffaceError(
            f"this {erasure.spec.method} erasure is no filter of prompts: its keys and values do not share one edit; "
            "apply it to the layers"
        )
    left, right = to_torch(erasure.tensors[LEFT_TENSOR]).double(), to_torch(erasure.tensors[DOWN_TENSOR]).double()
    return torch.eye(len(left), dtype=torch.float64) + left @ right
