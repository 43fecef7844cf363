"""The factored system of a closed-form problem: primal, dual, or with invariant states (see `solve`)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from efface.core.errors import EffaceError

from .problem import Invariants, Pairs, ProblemTerms

MAX_CONDITION = 1e15
"""Condition number above which a solution has no correct digit in float64."""


def factorise(problem: ProblemTerms) -> Factor:
    """Factors the smallest system that solves a problem; raises `EffaceError` if it is singular."""
    factor = DualFactor(problem) if problem.uses_dual() else PrimalFactor(problem)
    return factor if problem.invariants is None else ConstrainedFactor(factor, problem.invariants)


class Factor:
    """Phi of one problem, factored once."""

    condition: float

    def __call__(self, states: Tensor) -> Tensor:
        """Returns ``Phi X`` for columns X ``(d, k)``; Phi is symmetric, so that X^T Phi is its transpose."""
        raise NotImplementedError

    def weighted(self, pairs: Pairs) -> Tensor:
        """Returns ``Phi K diag(w)``, ``(d, m)``: the transpose of C."""
        return self(pairs.source * pairs.weight)


class PrimalFactor(Factor):
    """A system of size d, or of the subspace's dimension."""

    def __init__(self, problem: ProblemTerms) -> None:
        pairs, d = problem.pairs, problem.width
        moment = (pairs.source * pairs.weight) @ pairs.source.T + problem.preserve.second_moment(d)
        moment = moment + problem.ridge * torch.eye(d, dtype=torch.float64)
        self.basis = problem.subspace
        matrix = moment if self.basis is None else self.basis.T @ moment @ self.basis
        self.lower, self.condition = cholesky(matrix, lambda _: _null_direction_message(problem))

    def __call__(self, states: Tensor) -> Tensor:
        """Returns ``Phi X``."""
        if self.basis is None:
            return torch.cholesky_solve(states, self.lower)
        return self.basis @ torch.cholesky_solve(self.basis.T @ states, self.lower)


class DualFactor(Factor):
    """A system of the number of tokens.

    Phi itself needs a ridge; ``Phi K diag(w)`` does not: without a ridge it interpolates.
    """

    def __init__(self, problem: ProblemTerms) -> None:
        states, weight = problem.preserve.columns(problem.width)
        self.basis, self.ridge = problem.subspace, problem.ridge
        self.num_pairs = len(problem.pairs)
        self.columns = torch.cat([problem.pairs.source, states], dim=1)
        self.weight = torch.cat([problem.pairs.weight, weight])
        self.projected = self._project(self.columns)
        matrix = self.columns.T @ self.projected + torch.diag(self.ridge / self.weight)
        self.lower, self.condition = cholesky(matrix, lambda vector: _dependent_message(problem, vector))

    def _project(self, states: Tensor) -> Tensor:
        return states if self.basis is None else self.basis @ (self.basis.T @ states)

    def __call__(self, states: Tensor) -> Tensor:
        """Returns ``Phi X``; raises `EffaceError` without a ridge."""
        if not self.ridge:
            raise EffaceError("without a ridge there is no solution for states beside the pairs: set ridge above 0")
        projected = self._project(states)
        return (projected - self.projected @ torch.cholesky_solve(self.projected.T @ states, self.lower)) / self.ridge

    def weighted(self, pairs: Pairs) -> Tensor:
        """Returns ``Phi K diag(w)`` without a division by the ridge."""
        unit_columns = torch.eye(len(self.weight), dtype=torch.float64)[:, : self.num_pairs]
        return self.projected @ torch.cholesky_solve(unit_columns, self.lower)


class ConstrainedFactor(Factor):
    """Phi with invariant states, by Woodbury's identity on top of another factor."""

    def __init__(self, inner: Factor, invariants: Invariants) -> None:
        self.inner, self.states = inner, invariants.states.double()
        self.inner_states = inner(self.states)
        eye = torch.eye(self.states.shape[1], dtype=torch.float64)
        matrix = self.states.T @ self.inner_states + invariants.gamma * eye
        message = "the invariant states are outside the subspace, or linearly dependent: set gamma above 0"
        self.lower, condition = cholesky(matrix, lambda _: message)
        self.condition = max(inner.condition, condition)

    def _constrain(self, states: Tensor) -> Tensor:
        return states - self.inner_states @ torch.cholesky_solve(self.states.T @ states, self.lower)

    def __call__(self, states: Tensor) -> Tensor:
        """Returns ``Phi X``."""
        return self._constrain(self.inner(states))

    def weighted(self, pairs: Pairs) -> Tensor:
        """Returns ``Phi K diag(w)``."""
        return self._constrain(self.inner.weighted(pairs))


def cholesky(matrix: Tensor, describe: Callable[[Tensor], str]) -> tuple[Tensor, float]:
    """Returns the lower factor of a symmetric matrix and an estimate of its condition number.

    Args:
        matrix: ``(n, n)``.
        describe: error message for the direction ``(n,)`` with the least eigenvalue.

    Raises:
        EffaceError: the matrix is singular in float64.
    """
    lower, info = torch.linalg.cholesky_ex(matrix)
    condition = float("inf") if int(info) else _condition(matrix, lower)
    if condition > MAX_CONDITION:
        _, vectors = torch.linalg.eigh(matrix)
        raise EffaceError(f"the system is singular: {describe(vectors[:, 0])}")
    return lower, condition


def _condition(matrix: Tensor, lower: Tensor, iterations: int = 24) -> float:
    """Largest over smallest eigenvalue, by power iteration on the matrix and on its inverse."""
    start = torch.randn(len(matrix), 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    large = small = start / start.norm()
    for _ in range(iterations):
        large, small = matrix @ large, torch.cholesky_solve(small, lower)
        largest, inverse_smallest = float(large.norm()), float(small.norm())
        large, small = large / large.norm(), small / small.norm()
    return largest * inverse_smallest


def _dependent_message(problem: ProblemTerms, vector: Tensor) -> str:
    """Names the pairs with linearly dependent states: those with a large share in the null direction."""
    texts = [*problem.pairs.texts, *("a preserved state" for _ in range(len(vector) - len(problem.pairs)))]
    share = vector.abs() / vector.abs().max()
    dependent = [i for i in range(len(vector)) if share[i] > 0.3]
    names = list(dict.fromkeys(repr(texts[i]) if i < len(texts) else f"pair {i}" for i in dependent))
    return f"the states of {', '.join(names[:6])} depend on each other; leave one out, or set ridge above 0"


def _null_direction_message(problem: ProblemTerms) -> str:
    return (
        f"{len(problem.pairs)} pairs and the preserved states leave directions of the {problem.width} without weight; "
        "set ridge above 0, or preserve more states"
    )
