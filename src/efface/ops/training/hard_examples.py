"""Sampling by difficulty: half of a batch from the examples with the largest loss, half at random."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class HardExampleSampler:
    """Chooses among N examples by an exponential mean of their measured losses; unmeasured ones count as 0.

    Args:
        count: N.
        decay: weight of earlier measurements; 0 keeps the last one only.
    """

    def __init__(self, count: int, decay: float = 0.0) -> None:
        self.decay = decay
        self.losses = torch.zeros(count)
        self.measured = torch.zeros(count, dtype=torch.bool)

    def update(self, losses: Tensor, rows: Tensor | None = None) -> None:
        """Takes in a new measurement ``(R,)`` of some examples, or of every one."""
        rows = torch.arange(len(self.losses)) if rows is None else rows
        new = losses.detach().float().cpu()
        mean = self.decay * self.losses[rows] + (1 - self.decay) * new
        self.losses[rows] = torch.where(self.measured[rows], mean, new)
        self.measured[rows] = True

    def sample(self, size: int, generator: torch.Generator) -> Tensor:
        """Returns indices ``(size,)``: half random, half drawn without replacement from the ``size`` hardest."""
        half = min(size // 2, len(self.losses))
        random = torch.randint(len(self.losses), (size - half,), generator=generator)
        hardest = self.losses.argsort(descending=True)[:size]
        return torch.cat([random, hardest[torch.randperm(len(hardest), generator=generator)[:half]]])

    def hardest(self, count: int) -> list[int]:
        """Returns the indices of the examples with the largest losses."""
        return [int(i) for i in self.losses.argsort(descending=True)[:count]]

    def state(self) -> dict[str, Tensor]:
        """Returns the tensors that a checkpoint holds."""
        return {"losses": self.losses, "measured": self.measured}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned."""
        self.losses = state["losses"].clone()
        self.measured = state["measured"].clone()
