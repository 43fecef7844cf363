"""Quality measures of a closed-form solution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from efface.ops.training.run import Run

from .low_rank import LowRankUpdate
from .solve import Problem


@dataclass(frozen=True)
class Diagnostics:
    """Quality of a solution E.

    Attributes:
        condition_number: estimate of the condition number of the solved system.
        rank: rank of E.
        norm: Frobenius norm of E.
        residual: ``|(I + E) K - A|_F / |A - K|_F`` with the pairs' weights: 0 is exact, 1 is no change.
        preserved_change: ``|E R|_F / |R|_F`` with their weights; None without preserved states.
        max_layer_change: largest ``|W E|_F / |W|_F`` of a layer.
    """

    condition_number: float
    rank: int
    norm: float
    residual: float
    preserved_change: float | None
    max_layer_change: float

    def numbers(self) -> dict[str, float]:
        """Returns every number that is not None, for the run's log."""
        return {name: float(value) for name, value in vars(self).items() if value is not None}


def diagnose(problem: Problem, update: LowRankUpdate, weights: Mapping[str, Tensor]) -> Diagnostics:
    """Measures a problem's solution.

    Args:
        problem: the solved problem.
        update: its solution E.
        weights: the edited layers' weights W by name.
    """
    pairs, e = problem.pairs, update.dense()
    root = pairs.weight.clamp(min=0).sqrt()
    remaining = ((pairs.source + e @ pairs.source - pairs.anchor) * root).norm()
    requested = ((pairs.anchor - pairs.source) * root).norm()
    moment = problem.preserve.second_moment(problem.width)
    trace = float(moment.trace())
    preserved_change = (float((e @ moment * e).sum()) / trace) ** 0.5 if trace > 0 else None
    layer_changes = [float((w.double() @ e.to(w.device)).norm() / w.double().norm()) for w in weights.values()]
    return Diagnostics(
        condition_number=problem.factor.condition,
        rank=update.rank,
        norm=float(e.norm()),
        residual=float(remaining / requested) if float(requested) else 0.0,
        preserved_change=preserved_change,
        max_layer_change=max(layer_changes, default=0.0),
    )


def solve_and_record(problem: Problem, weights: Mapping[str, Tensor], run: Run) -> LowRankUpdate:
    """Solves a problem and records its `Diagnostics` in the run's log under ``solve``.

    Args:
        problem: the problem.
        weights: the edited layers' weights W by name.
        run: the run.

    Raises:
        EffaceError: no pairs, or a singular system.
    """
    update = problem.solve()
    run.record("solve", diagnose(problem, update, weights).numbers())
    return update
