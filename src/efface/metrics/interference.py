"""Interference: what the erasure did to every other object, one by one, as rows for a chart.

A mean over many objects hides the few that went with the concept (a celebrity's namesakes, the axe's hammer). Each row has the rate at
which prompts of that object show it, before and after, and the difference; the worst come first.

The difference's interval is that for paired proportions, "method 10" (Newcombe 1998, Statistics in Medicine 17, 2635): with
d = p_after - p_before, bounds (l, u) of each rate and the correlation phi of the pairs,

    low  = d - sqrt((p_after - l_after)^2 - 2 phi (p_after - l_after)(u_before - p_before) + (u_before - p_before)^2)
    high = d + sqrt((u_after - p_after)^2 - 2 phi (u_after - p_after)(p_before - l_before) + (p_before - l_before)^2)

How it can be fooled: with few images an object, a row's interval is wide and the order of the rows is mostly chance; of fifty rows,
two or three leave zero by chance alone. A destroyed model shows at once: every row is at the bottom.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from efface.core.score import Provenance, Score

from .detections import Detection, Detections, pairs
from .rate_score import rate_score


@dataclass(frozen=True)
class ObjectInterference:
    """One object: scores ``interference_before``, ``interference_after`` and ``interference`` (after - before), its id as their group."""

    object: str
    before: Score
    after: Score
    change: Score

    def to_dict(self) -> dict[str, str | int | float | None]:
        """One flat row: object, n, and value, low and high of before, after and change."""
        row: dict[str, str | int | float | None] = {"object": self.object, "n": self.change.n}
        for name, score in (("before", self.before), ("after", self.after), ("change", self.change)):
            row |= {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}
        return row


def interference(
    before: Detections, after: Detections, groups: Sequence[str], *,
    rng: np.random.Generator, provenance: Provenance, head: str = "object", without: Collection[str] = (),
) -> tuple[ObjectInterference, ...]:  # fmt: skip
    """One row for each object that some prompt of these groups asks for, the most damaged first; none where there are no images.

    Args:
        before: what the base model's images show.
        after: what the edited model's images show, for the same prompts and seeds.
        groups: which images.
        rng: the only source of randomness.
        provenance: how the images came about.
        head: the head that sees it; ``style`` for other styles.
        without: the concept's own classes. Prompts that would be content with any of several objects are left out, too.
    """
    found: dict[str, list[tuple[Detection, Detection]]] = {}
    for pair in pairs(before, after, groups):
        wanted = pair[0].prompt.expected_classes.get(head, ())
        if len(wanted) == 1 and not set(wanted) & set(without):
            found.setdefault(next(iter(wanted)), []).append(pair)
    rows = [_row(name, found[name], before, head, rng, provenance) for name in sorted(found)]
    return tuple(sorted(rows, key=lambda row: (row.change.value or 0.0, row.object)))


def _row(
    name: str, rows: Sequence[tuple[Detection, Detection]], before: Detections, head: str, rng: np.random.Generator, provenance: Provenance,
) -> ObjectInterference:  # fmt: skip
    old = np.array([a.matches_expected([head]) for a, _ in rows], float)
    new = np.array([b.matches_expected([head]) for _, b in rows], float)
    first, detector = [a for a, _ in rows], before.detector(head)
    was = rate_score("interference_before", name, old, first, rng, detector, provenance)
    is_now = rate_score("interference_after", name, new, first, rng, detector, provenance)
    low, high = paired_difference(was, is_now, phi(old, new))
    change = Score(
        "interference", name, float(new.mean() - old.mean()), low, high, len(rows), detector, is_now.provenance
    )
    return ObjectInterference(name, was, is_now, change)


def paired_difference(before: Score, after: Score, correlation: float) -> tuple[float, float]:
    """Bounds in [-1, 1] of the difference after - before of two rates over the same n pairs, from their own bounds.

    Raises:
        ValueError: a rate without an interval.
    """
    if (
        before.value is None
        or before.low is None
        or before.high is None
        or after.value is None
        or after.low is None
        or after.high is None
    ):
        raise ValueError("no difference of rates without images")
    change = after.value - before.value

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2 * correlation * a * b + b * b, 0.0))

    low = change - reach(after.value - after.low, before.high - before.value)
    high = change + reach(after.high - after.value, before.value - before.low)
    return max(low, -1.0), min(high, 1.0)


def phi(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """The correlation of two ``(n,)`` lists of hits, lessened by Newcombe's continuity correction; 0 where either is all alike."""
    both, neither = float((before * after).sum()), float(((1 - before) * (1 - after)).sum())
    lost, gained = float((before * (1 - after)).sum()), float(((1 - before) * after).sum())
    margins = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    if margins == 0:
        return 0.0
    product = both * neither - lost * gained
    corrected = max(product - len(before) / 2, 0.0) if product > 0 else product
    return corrected / math.sqrt(margins)
