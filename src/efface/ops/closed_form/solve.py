"""One least-squares problem behind the closed-form methods, and its solution for every layer that reads the text at once.

Vectors are columns. K ``(d, m)`` are states of the tokens to erase, A ``(d, m)`` what each is to become, w their weights; R ``(d, n)``
states that must stay, with weights rho. For a matrix W that reads the states, the edited W' minimises

    sum_i w_i |W' k_i - W a_i|^2 + sum_j rho_j |W' r_j - W r_j|^2 + lambda |W' - W|_F^2

As every target is what W itself makes of another state, the solution is W' = W (I + E) with one and the same

    E = (A - K) C,     C = diag(w) K^T Phi,     Phi = (lambda I + K diag(w) K^T + R diag(rho) R^T)^-1

for all layers, and rank(E) <= m. UCE (Gandikota et al., arXiv 2308.14761) states the problem; RECE, MACE, TRCE and SPEED build others of
it. Two constraints come from SPEED (Li et al., arXiv 2503.07392). E may be restricted to a subspace with the orthonormal basis U, so
that nothing outside of it is changed, and states N may be held: with G = U (U^T Phi^-1 U)^-1 U^T,

    Phi = G - G N (N^T G N + gamma I)^-1 N^T G

so that E N = 0 for gamma = 0. By Woodbury's identity gamma > 0 is the same as preserving N with the weights 1/gamma.

Everything is float64; systems are factored by Cholesky, and no inverse is formed. Where there are fewer tokens than dimensions, the dual
system of their number is solved instead of one of d: C^T = P X (lambda diag(w)^-1 + X^T P X)^-1 with X = (K, R) and P = U U^T.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from efface.core.errors import EffaceError

from .low_rank import LowRank

if TYPE_CHECKING:
    from .factor import Factor


@dataclass(frozen=True)
class Pairs:
    """What is to become what: columns K and A ``(d, m)``, weights ``(m,)``, and the text that each column is a token of."""

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
        """Several sets of pairs as one."""
        source, anchor, weight = (
            torch.cat([getattr(p, name) for p in parts], dim=-1) for name in ("source", "anchor", "weight")
        )
        return Pairs(source, anchor, weight, tuple(text for p in parts for text in p.texts))

    def scaled(self, by: float) -> Pairs:
        """The same pairs with weights times ``by``."""
        return Pairs(self.source, self.anchor, self.weight * by, self.texts)


@dataclass(frozen=True)
class Preserve:
    """States that must stay: columns ``(d, n)`` with weights ``(n,)``, a Gram ``sum_j rho_j r_j r_j^T`` ``(d, d)``, or both."""

    states: Tensor | None = None
    weight: Tensor | None = None
    gram: Tensor | None = None

    def columns(self, width: int) -> tuple[Tensor, Tensor]:
        """States and weights, none where only a Gram is given."""
        if self.states is None:
            return torch.zeros(width, 0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
        weight = torch.ones(self.states.shape[1]) if self.weight is None else self.weight
        return self.states.double(), weight.double()

    def with_gram(self, gram: Tensor, weight: float) -> Preserve:
        """The same, and a Gram besides with a weight of its own."""
        own = gram.double() * weight
        return replace(self, gram=own if self.gram is None else self.gram + own)

    def second_moment(self, width: int) -> Tensor:
        """``sum_j rho_j r_j r_j^T`` of both."""
        states, weight = self.columns(width)
        own = (states * weight) @ states.T
        return own if self.gram is None else own + self.gram.double()


@dataclass(frozen=True)
class Invariants:
    """States N ``(d, q)`` that E must not move: exactly for gamma 0, the softer the larger gamma."""

    states: Tensor
    gamma: float = 0.0


@dataclass(frozen=True)
class Problem:
    """The least-squares problem of the module's text.

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
        """d, the width of a state."""
        return len(self.pairs.source)

    def dual(self) -> bool:
        """Whether the tokens are fewer than the dimensions, so that a system of their number is solved."""
        return (
            self.preserve.gram is None and len(self.pairs) + self.preserve.columns(self.width)[1].numel() < self.width
        )

    @cached_property
    def factor(self) -> Factor:
        """The system, factored once, for targets of a layer's own too.

        Raises:
            EffaceError: nothing to erase, or a system that is singular.
        """
        if not len(self.pairs):
            raise EffaceError("there is nothing to erase: give at least one pair of states")
        from .factor import factorise

        return factorise(self)

    def solve(self) -> LowRank:
        """E, as a product of ``A - K`` and C.

        Raises:
            EffaceError: the system is singular.
        """
        return LowRank(self.pairs.anchor - self.pairs.source, self.factor.weighted(self.pairs).T)
