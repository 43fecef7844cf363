"""A low-rank update E = U C of the states that every layer reads, so that W' = W (I + E)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LowRankUpdate:
    """E ``(d, d)`` as U ``(d, r)`` times C ``(r, d)``, float64.

    For a layer W it is a LoRA with ``up = W U`` and ``down = C``, the same ``down`` for every layer. On a state x (a
    column) it is ``x + U (C x)``.

    Attributes:
        left: U.
        right: C.
    """

    left: Tensor
    right: Tensor

    @classmethod
    def zero(cls, width: int) -> LowRankUpdate:
        """Returns E = 0."""
        return cls(torch.zeros(width, 0, dtype=torch.float64), torch.zeros(0, width, dtype=torch.float64))

    @classmethod
    def from_dense(cls, dense: Tensor, tolerance: float = 1e-14) -> LowRankUpdate:
        """Factors a dense E by SVD; singular values below the tolerance times the largest are left out."""
        u, s, v = torch.linalg.svd(dense.double())
        rank = int((s > tolerance * s[0]).sum()) if s[0] > 0 else 0
        return cls(u[:, :rank] * s[:rank], v[:rank])

    @property
    def width(self) -> int:
        """The width of a state, d."""
        return len(self.left)

    @property
    def rank(self) -> int:
        """The number of columns r, an upper bound of E's rank."""
        return self.left.shape[1]

    def dense(self) -> Tensor:
        """Returns E, ``(d, d)``."""
        return self.left @ self.right

    def matrix(self) -> Tensor:
        """Returns I + E, ``(d, d)``."""
        return torch.eye(self.width, dtype=torch.float64) + self.dense()

    def compact(self) -> LowRankUpdate:
        """Returns the same E with at most d columns.

        With more columns it is E times I: a decomposition would cost more than it saves.
        """
        if self.rank <= self.width:
            return self
        return LowRankUpdate(self.dense(), torch.eye(self.width, dtype=torch.float64))

    def compose(self, later: LowRankUpdate) -> LowRankUpdate:
        """Returns both updates in sequence, (I + E)(I + E'); E' was solved for the matrices that E edits.

        Both are compact first: the product of two ranks above d would be the largest matrix of the run.
        """
        first, second = self.compact(), later.compact()
        later_left = second.left + first.left @ (first.right @ second.left)
        return LowRankUpdate(torch.cat([first.left, later_left], dim=1), torch.cat([first.right, second.right]))

    def __call__(self, states: Tensor) -> Tensor:
        """Applies the update to states as rows ``(..., d)``."""
        left, right = self.left.to(states), self.right.to(states)
        return states + (states @ right.T) @ left.T

    def lora_up(self, weight: Tensor) -> Tensor:
        """Returns the LoRA's ``up`` ``(o, r)`` of a layer ``(o, d)``: ``W U``."""
        return weight.double() @ self.left.to(weight.device)
