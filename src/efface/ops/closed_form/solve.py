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

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from efface.core.errors import EffaceError

from .low_rank import LowRank

EXACT = 1e15
"""The condition beyond which a solution has no correct digit in float64."""


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
            raise ValueError(f"pairs of {list(self.source.shape)} and {list(self.anchor.shape)} with {len(self.weight)} weights")

    def __len__(self) -> int:
        return len(self.weight)

    @staticmethod
    def cat(parts: Sequence[Pairs]) -> Pairs:
        """Several sets of pairs as one."""
        source, anchor, weight = (torch.cat([getattr(p, name) for p in parts], dim=-1) for name in ("source", "anchor", "weight"))
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

    def beside(self, gram: Tensor, weight: float) -> Preserve:
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
        return self.preserve.gram is None and len(self.pairs) + self.preserve.columns(self.width)[1].numel() < self.width

    @cached_property
    def factor(self) -> Factor:
        """The system, factored once, for targets of a layer's own too.

        Raises:
            EffaceError: nothing to erase, or a system that is singular.
        """
        if not len(self.pairs):
            raise EffaceError("there is nothing to erase: give at least one pair of states")
        inner = Dual(self) if self.dual() else Primal(self)
        return inner if self.invariants is None else Held(inner, self.invariants)

    def solve(self) -> LowRank:
        """E, as a product of ``A - K`` and C.

        Raises:
            EffaceError: the system is singular.
        """
        return LowRank(self.pairs.anchor - self.pairs.source, self.factor.weighted(self.pairs).T)


class Factor:
    """Phi of one problem, factored once."""

    condition: float

    def __call__(self, states: Tensor) -> Tensor:
        """``Phi X`` for columns X ``(d, k)``; Phi is symmetric, so that rows times Phi are the transpose of this."""
        raise NotImplementedError

    def weighted(self, pairs: Pairs) -> Tensor:
        """``Phi K diag(w)``, ``(d, m)``: the transpose of C."""
        return self(pairs.source * pairs.weight)


class Primal(Factor):
    """A system of d, or of the subspace's dimension."""

    def __init__(self, problem: Problem) -> None:
        pairs, d = problem.pairs, problem.width
        moment = (pairs.source * pairs.weight) @ pairs.source.T + problem.preserve.second_moment(d)
        moment = moment + problem.ridge * torch.eye(d, dtype=torch.float64)
        self.basis = problem.subspace
        matrix = moment if self.basis is None else self.basis.T @ moment @ self.basis
        self.lower, self.condition = cholesky(matrix, lambda _: _no_weight(problem))

    def __call__(self, states: Tensor) -> Tensor:
        """``Phi X``."""
        if self.basis is None:
            return torch.cholesky_solve(states, self.lower)
        return self.basis @ torch.cholesky_solve(self.basis.T @ states, self.lower)


class Dual(Factor):
    """A system of the number of tokens; Phi itself needs a ridge, ``Phi K diag(w)`` does not: without one it interpolates."""

    def __init__(self, problem: Problem) -> None:
        states, weight = problem.preserve.columns(problem.width)
        self.basis, self.ridge, self.count = problem.subspace, problem.ridge, len(problem.pairs)
        self.columns = torch.cat([problem.pairs.source, states], dim=1)
        self.weight = torch.cat([problem.pairs.weight, weight])
        self.seen = self._project(self.columns)
        matrix = self.columns.T @ self.seen + torch.diag(self.ridge / self.weight)
        self.lower, self.condition = cholesky(matrix, lambda vector: _dependent(problem, vector))

    def _project(self, states: Tensor) -> Tensor:
        return states if self.basis is None else self.basis @ (self.basis.T @ states)

    def __call__(self, states: Tensor) -> Tensor:
        """``Phi X``; raises `EffaceError` without a ridge."""
        if not self.ridge:
            raise EffaceError("without a ridge there is no solution for states beside the pairs: set lambda above 0")
        here = self._project(states)
        return (here - self.seen @ torch.cholesky_solve(self.seen.T @ states, self.lower)) / self.ridge

    def weighted(self, pairs: Pairs) -> Tensor:
        """``Phi K diag(w)`` without a division by the ridge."""
        chosen = torch.eye(len(self.weight), dtype=torch.float64)[:, : self.count]
        return self.seen @ torch.cholesky_solve(chosen, self.lower)


class Held(Factor):
    """Phi with states that are held, by Woodbury's identity on top of another factor."""

    def __init__(self, inner: Factor, invariants: Invariants) -> None:
        self.inner, self.states = inner, invariants.states.double()
        self.reached = inner(self.states)
        matrix = self.states.T @ self.reached + invariants.gamma * torch.eye(self.states.shape[1], dtype=torch.float64)
        self.lower, own = cholesky(
            matrix, lambda _: "the states that are held are not in the subspace, or not independent: set gamma above 0"
        )
        self.condition = max(inner.condition, own)

    def _hold(self, states: Tensor) -> Tensor:
        return states - self.reached @ torch.cholesky_solve(self.states.T @ states, self.lower)

    def __call__(self, states: Tensor) -> Tensor:
        """``Phi X``."""
        return self._hold(self.inner(states))

    def weighted(self, pairs: Pairs) -> Tensor:
        """``Phi K diag(w)``."""
        return self._hold(self.inner.weighted(pairs))


def cholesky(matrix: Tensor, why: Callable[[Tensor], str]) -> tuple[Tensor, float]:
    """The lower factor of a symmetric matrix and an estimate of its condition.

    Raises:
        EffaceError: it is singular to float64; ``why`` says so of the direction without weight.
    """
    lower, failed = torch.linalg.cholesky_ex(matrix)
    condition = float("inf") if int(failed) else _condition(matrix, lower)
    if condition > EXACT:
        _, vectors = torch.linalg.eigh(matrix)
        raise EffaceError(f"the system is singular: {why(vectors[:, 0])}")
    return lower, condition


def _condition(matrix: Tensor, lower: Tensor, rounds: int = 24) -> float:
    """Largest over smallest eigenvalue by power iteration on the matrix and, through its factor, on its inverse."""
    start = torch.randn(len(matrix), 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    large = small = start / start.norm()
    for _ in range(rounds):
        large, small = matrix @ large, torch.cholesky_solve(small, lower)
        top, bottom = float(large.norm()), float(small.norm())
        large, small = large / large.norm(), small / small.norm()
    return top * bottom


def _dependent(problem: Problem, vector: Tensor) -> str:
    """Names the pairs whose states depend on each other: those that the direction without weight is made of."""
    texts = [*problem.pairs.texts, *("a preserved state" for _ in range(len(vector) - len(problem.pairs)))]
    share = vector.abs() / vector.abs().max()
    named = list(dict.fromkeys(repr(texts[i]) if i < len(texts) else f"pair {i}" for i in range(len(vector)) if share[i] > 0.3))
    return f"the states of {', '.join(named[:6])} depend on each other; leave one out, or set lambda above 0"


def _no_weight(problem: Problem) -> str:
    d, tokens = problem.width, len(problem.pairs)
    return f"{tokens} pairs and what is preserved leave directions of the {d} without weight; set lambda above 0, or preserve more states"
