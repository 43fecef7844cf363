"""An edit of what every layer reads: E = U C, so that W' = W (I + E)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LowRank:
    """E ``(d, d)`` as U ``(d, r)`` times C ``(r, d)``, float64.

    For a layer W it is a LoRA with ``up = W U`` and ``down = C``, the same ``down`` for every layer, and on a state x (a column)
    it is ``x + U (C x)``.
    """

    left: Tensor
    right: Tensor

    @classmethod
    def zero(cls, width: int) -> LowRank:
        """E = 0."""
        return cls(torch.zeros(width, 0, dtype=torch.float64), torch.zeros(0, width, dtype=torch.float64))

    @classmethod
    def of(cls, dense: Tensor, tolerance: float = 1e-14) -> LowRank:
        """A dense E by its singular vectors; values below the tolerance times the largest are left out."""
        u, s, v = torch.linalg.svd(dense.double())
        kept = int((s > tolerance * s[0]).sum()) if s[0] > 0 else 0
        return cls(u[:, :kept] * s[:kept], v[:kept])

    @property
    def width(self) -> int:
        """D."""
        return len(self.left)

    @property
    def rank(self) -> int:
        """r, an upper bound of E's rank."""
        return self.left.shape[1]

    def dense(self) -> Tensor:
        """E, ``(d, d)``."""
        return self.left @ self.right

    def matrix(self) -> Tensor:
        """I + E, ``(d, d)``."""
        return torch.eye(self.width, dtype=torch.float64) + self.dense()

    def compact(self) -> LowRank:
        """The same E with no more than d columns: E itself times I where it had more, for a decomposition would cost more than it saves."""
        return self if self.rank <= self.width else LowRank(self.dense(), torch.eye(self.width, dtype=torch.float64))

    def compose(self, later: LowRank) -> LowRank:
        """Both edits one after the other, the later one solved for the matrices that this one made: (I + E)(I + E')."""
        moved = later.left + self.left @ (self.right @ later.left)
        return LowRank(torch.cat([self.left, moved], dim=1), torch.cat([self.right, later.right]))

    def __call__(self, states: Tensor) -> Tensor:
        """States as rows ``(..., d)`` with the edit: what the edited layers see in place of them."""
        left, right = self.left.to(states), self.right.to(states)
        return states + (states @ right.T) @ left.T

    def up(self, weight: Tensor) -> Tensor:
        """The LoRA's ``up`` of a layer ``(o, d)``: ``W U``, ``(o, r)``."""
        return weight.double() @ self.left.to(weight.device)
