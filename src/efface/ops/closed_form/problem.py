"""Terms of the least-squares problem behind the closed-form methods (see `solve` for the formulas)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pairs:
    """States to edit with their target states.

    Attributes:
        source: K, states of the concept's tokens as columns, ``(d, m)``.
        anchor: A, the state that each is mapped to, ``(d, m)``.
        weight: w, ``(m,)``.
        texts: the concept's word for each column.
    """

    source: Tensor
    anchor: Tensor
    weight: Tensor
    texts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("source", "anchor", "weight"):
            object.__setattr__(self, name, getattr(self, name).double())
        if self.source.shape != self.anchor.shape or self.source.shape[1] != len(self.weight):
            raise ValueError(
                f"pairs of {list(self.source.shape)} and {list(self.anchor.shape)} with {len(self.weight)} weights"
            )

    def __len__(self) -> int:
        return len(self.weight)

    @staticmethod
    def cat(parts: Sequence[Pairs]) -> Pairs:
        """Concatenates several sets of pairs."""
        source = torch.cat([part.source for part in parts], dim=-1)
        anchor = torch.cat([part.anchor for part in parts], dim=-1)
        weight = torch.cat([part.weight for part in parts], dim=-1)
        return Pairs(source, anchor, weight, tuple(text for part in parts for text in part.texts))

    def scaled(self, factor: float) -> Pairs:
        """Returns the same pairs with weights times ``factor``."""
        return Pairs(self.source, self.anchor, self.weight * factor, self.texts)


@dataclass(frozen=True)
class Preserve:
    """States that the edit should preserve: columns with weights, a Gram matrix, or both.

    Attributes:
        states: R, columns ``(d, n)``.
        weight: rho, ``(n,)``; ones by default.
        gram: ``sum_j rho_j r_j r_j^T``, ``(d, d)``.
    """

    states: Tensor | None = None
    weight: Tensor | None = None
    gram: Tensor | None = None

    def columns(self, width: int) -> tuple[Tensor, Tensor]:
        """Returns states and weights, both empty if only a Gram matrix is given."""
        if self.states is None:
            return torch.zeros(width, 0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
        weight = torch.ones(self.states.shape[1]) if self.weight is None else self.weight
        return self.states.double(), weight.double()

    def with_gram(self, gram: Tensor, weight: float) -> Preserve:
        """Returns the same terms plus a Gram matrix times ``weight``."""
        weighted = gram.double() * weight
        return replace(self, gram=weighted if self.gram is None else self.gram + weighted)

    def second_moment(self, width: int) -> Tensor:
        """Returns ``sum_j rho_j r_j r_j^T`` of columns and Gram matrix together, ``(d, d)``."""
        states, weight = self.columns(width)
        moment = (states * weight) @ states.T
        return moment if self.gram is None else moment + self.gram.double()


@dataclass(frozen=True)
class Invariants:
    """States N ``(d, q)`` that E must not move: exactly for gamma = 0, more softly for larger gamma."""

    states: Tensor
    gamma: float = 0.0


@dataclass(frozen=True)
class ProblemTerms:
    """The terms of the least-squares problem.

    Attributes:
        pairs: K, A and w.
        preserve: R and rho.
        ridge: lambda, closeness to the original matrices.
        subspace: U ``(d, q)``, orthonormal columns; None is the whole space.
        invariants: N and gamma.
    """

    pairs: Pairs
    preserve: Preserve = field(default_factory=Preserve)
    ridge: float = 0.5
    subspace: Tensor | None = None
    invariants: Invariants | None = None

    @property
    def width(self) -> int:
        """The width of a state, d."""
        return len(self.pairs.source)

    def uses_dual(self) -> bool:
        """Whether there are fewer tokens than dimensions, so that a system of their number is solved."""
        num_tokens = len(self.pairs) + self.preserve.columns(self.width)[1].numel()
        return self.preserve.gram is None and num_tokens < self.width
