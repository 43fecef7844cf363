"""A closed-form erasure as a filter of what the denoiser reads, on and off at will."""

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
from efface.models.protocol import Conditioning
from efface.ops.editing.forward_hooks import states_hook
from efface.ops.tensor_conversion import to_torch

from .to_edits import LEFT, SHARED


class PromptFilter:
    """What every layer's edit does, done once to the states of a prompt: x -> (I + E) x.

    Calling it filters one conditioning; `on` filters all that the model's denoiser reads meanwhile, also the empty prompt's states, as
    classifier-free guidance needs it for the same images as with the edited layers.

    Args:
        model: whose denoiser reads the states.
        matrix: I + E, ``(d, d)``.
    """

    def __init__(self, model: EditableModel, matrix: Tensor) -> None:
        self._unet: nn.Module = model.components["unet"]
        self.matrix = matrix
        self.active = True

    @classmethod
    def of(cls, model: EditableModel, erasure: Erasure) -> PromptFilter:
        """The filter that does what a closed-form erasure does.

        Raises:
            EffaceError: one that is none, or whose layers do not share one E: values alone are edited, or each layer in its own way.
        """
        return cls(model, shared_matrix(erasure))

    def __call__(self, cond: Conditioning) -> Conditioning:
        """One conditioning, filtered."""
        return replace(cond, states=nn.functional.linear(cond.states, self.matrix.to(cond.states)))

    @contextmanager
    def on(self) -> Iterator[PromptFilter]:
        """Filters all that the denoiser reads; set `active` to False to let calls pass as they are."""

        def change(states: Tensor) -> Tensor:
            return nn.functional.linear(states, self.matrix.to(states)) if self.active else states

        handle: Any = states_hook(self._unet, change)
        try:
            yield self
        finally:
            handle.remove()


def shared_matrix(erasure: Erasure) -> Tensor:
    """I + E ``(d, d)`` of an erasure whose layers share one E (see `PromptFilter.of` for what is refused)."""
    edits = erasure.edits
    if (
        len(edits) == 1
        and edits[0].op == "state"
        and edits[0].component == "unet"
        and set(edits[0].tensors) == {"matrix"}
    ):
        return to_torch(erasure.tensors[edits[0].tensors["matrix"]])
    if len(edits) != 1 or edits[0].op != "low_rank" or LEFT not in erasure.tensors:
        raise EffaceError(
            f"this {erasure.spec.method} erasure is no filter of prompts: its keys and values do not share one edit; apply it to the layers"
        )
    left, right = to_torch(erasure.tensors[LEFT]).double(), to_torch(erasure.tensors[SHARED]).double()
    return torch.eye(len(left), dtype=torch.float64) + left @ right
