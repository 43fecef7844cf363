"""Learned states behind a prompt's words that bring an erased concept back (Receler, arXiv 2311.17717)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from efface.models.conditioning import Conditioning


class AdversarialStates:
    """States ``(1, n, D)`` that overwrite a prompt's states from its end of text on; they persist over the steps.

    Args:
        count: number n of states.
        width: width D of a state.
        generator: draws them from U(0, 1), on the CPU.
        like: gives device and dtype.
    """

    def __init__(self, count: int, width: int, generator: torch.Generator, like: Tensor) -> None:
        self.states = torch.rand(1, count, width, generator=generator).to(like.device).requires_grad_(True)
        self._optimiser = torch.optim.Adam([self.states], lr=0.1, weight_decay=0.1)

    def insert(self, cond: Conditioning, eos: Tensor) -> Conditioning:
        """Overwrites the states from each prompt's end of text ``eos`` ``(B,)`` on, as far as the context reaches."""
        length = cond.states.shape[1]
        offset = torch.arange(length, device=eos.device)[None] - eos[:, None]
        inside = (offset >= 0) & (offset < self.states.shape[1])
        chosen = self.states[0].to(cond.states.dtype)[offset.clamp(0, self.states.shape[1] - 1)]
        return replace(cond, states=torch.where(inside[..., None], chosen, cond.states))

    def improve(self, steps: int, loss: Callable[[], Tensor]) -> None:
        """Descends a loss of the states for some steps."""
        for _ in range(steps):
            self.states.grad = torch.autograd.grad(loss(), self.states)[0]
            self._optimiser.step()
        self.states.grad = None

    def state(self) -> dict[str, Tensor]:
        """Returns the states and the optimiser's moments for a checkpoint."""
        moments = {f"moment.{name}": value for name, value in self._optimiser.state.get(self.states, {}).items()}
        return {"states": self.states.detach(), **moments}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned."""
        with torch.no_grad():
            self.states.copy_(state["states"])
        moments = {name.removeprefix("moment."): value for name, value in state.items() if name != "states"}
        if moments:
            self._optimiser.state[self.states] = moments
