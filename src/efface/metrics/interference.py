"""Interference: how the erasure changed every other object, one by one, as rows for a chart.

A mean over many objects hides the few that were lost with the concept (a celebrity's namesakes, the axe's hammer).
Each row has the rate at which prompts of that object show it, before and after, and the difference; the most damaged
objects come first.

The difference's interval is that for paired proportions, "method 10" (Newcombe 1998, Statistics in Medicine 17,
2635): with d = p_after - p_before, bounds (l, u) of each rate and the correlation phi of the pairs,

    low  = d - sqrt((p_after - l_after)^2 - 2 phi (p_after - l_after)(u_before - p_before) + (u_before - p_before)^2)
    high = d + sqrt((u_after - p_after)^2 - 2 phi (u_after - p_after)(p_before - l_before) + (p_before - l_before)^2)

How it can be fooled: with few images an object, a row's interval is wide and the order of the rows is mostly chance.
Of fifty rows, two or three exclude zero by chance alone. A destroyed model is obvious: every object's rate falls.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from efface.core.score import Provenance, Score

from .detections import Detection, Detections
from .pairing import paired_detections
from .rate_score import rate_score


@dataclass(frozen=True)
class ObjectInterference:
    """One object's rates before and after, and their difference.

    Attributes:
        object: the object's class, which is also the group of its scores.
        before: score ``interference_before``.
        after: score ``interference_after``.
        change: score ``interference``, after - before.
    """

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
    before: Detections,
    after: Detections,
    groups: Sequence[str],
    *,
    rng: np.random.Generator,
    provenance: Provenance,
    head: str = "object",
    excluded_classes: Collection[str] = (),
) -> tuple[ObjectInterference, ...]:
    """One row for each object that prompts of these groups ask for, the most damaged first; empty without images.

    Prompts that accept any of several objects are left out.

    Args:
        before: detections of the base model.
        after: detections of the edited model, for the same prompts and seeds.
        groups: the groups to take images from.
        rng: the only source of randomness.
        provenance: how the images were generated.
        head: the detector's head that sees the objects; ``style`` for other styles.
        excluded_classes: classes to leave out: the concept's own.
    """
    by_class: dict[str, list[tuple[Detection, Detection]]] = {}
    for pair in paired_detections(before, after, groups):
        expected = pair[0].prompt.expected_classes.get(head, ())
        if len(expected) == 1 and not set(expected) & set(excluded_classes):
            by_class.setdefault(next(iter(expected)), []).append(pair)
    rows = [_object_row(name, by_class[name], before, head, rng, provenance) for name in sorted(by_class)]
    return tuple(sorted(rows, key=lambda row: (row.change.value or 0.0, row.object)))


def _object_row(
    name: str,
    pairs: Sequence[tuple[Detection, Detection]],
    before: Detections,
    head: str,
    rng: np.random.Generator,
    provenance: Provenance,
) -> ObjectInterference:
    old_hits = np.array([old.matches_expected([head]) for old, _ in pairs], float)
    new_hits = np.array([new.matches_expected([head]) for _, new in pairs], float)
    rows = [old for old, _ in pairs]
    detector = before.detector(head)
    rate_before = rate_score("interference_before", name, old_hits, rows, rng, detector, provenance)
    rate_after = rate_score("interference_after", name, new_hits, rows, rng, detector, provenance)
    low, high = paired_difference(rate_before, rate_after, phi_coefficient(old_hits, new_hits))
    difference = float(new_hits.mean() - old_hits.mean())
    change = Score("interference", name, difference, low, high, len(rows), detector, rate_after.provenance)
    return ObjectInterference(name, rate_before, rate_after, change)


def paired_difference(before: Score, after: Score, correlation: float) -> tuple[float, float]:
    """Bounds in [-1, 1] of the difference after - before of two rates over the same n pairs.

    Args:
        before: the rate before, with its interval.
        after: the rate after, with its interval.
        correlation: the correlation phi of the pairs, in [-1, 1].

    Raises:
        ValueError: a rate without an interval.
    """
    p_before, low_before, high_before = _with_bounds(before)
    p_after, low_after, high_after = _with_bounds(after)
    change = p_after - p_before

    def half_width(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2 * correlation * a * b + b * b, 0.0))

    low = change - half_width(p_after - low_after, high_before - p_before)
    high = change + half_width(high_after - p_after, p_before - low_before)
    return max(low, -1.0), min(high, 1.0)


def _with_bounds(rate: Score) -> tuple[float, float, float]:
    if rate.value is None or rate.low is None or rate.high is None:
        raise ValueError(f"{rate.metric}/{rate.group} has no interval, so no difference can be computed")
    return rate.value, rate.low, rate.high


def phi_coefficient(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """Correlation of two ``(n,)`` lists of hits with Newcombe's continuity correction; 0 where either is constant."""
    both, neither = float((before * after).sum()), float(((1 - before) * (1 - after)).sum())
    lost, gained = float((before * (1 - after)).sum()), float(((1 - before) * after).sum())
    margins = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    if margins == 0:
        return 0.0
    product = both * neither - lost * gained
    corrected = max(product - len(before) / 2, 0.0) if product > 0 else product
    return corrected / math.sqrt(margins)
