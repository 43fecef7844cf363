"""The factored system of a closed-form problem: of d, of the tokens' number, or with states that are held (see `solve`)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from efface.core.errors import EffaceError

from .solve import Invariants, Pairs, Problem

EXACT = 1e15
"""The condition beyond which a solution has no correct digit in float64."""


def factorise(problem: Problem) -> Factor:
    """The smallest system that solves a problem; raises `EffaceError` where it is singular."""
    inner = Dual(problem) if problem.dual() else Primal(problem)
    return inner if problem.invariants is None else ConstrainedFactor(inner, problem.invariants)


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


class ConstrainedFactor(Factor):
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
    named = list(
        dict.fromkeys(repr(texts[i]) if i < len(texts) else f"pair {i}" for i in range(len(vector)) if share[i] > 0.3)
    )
    return f"the states of {', '.join(named[:6])} depend on each other; leave one out, or set lambda above 0"


def _no_weight(problem: Problem) -> str:
    d, tokens = problem.width, len(problem.pairs)
    return f"{tokens} pairs and what is preserved leave directions of the {d} without weight; set lambda above 0, or preserve more states"
