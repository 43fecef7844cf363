"""Confidence intervals: Wilson's for rates, bootstraps over clusters (prompts) for the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Statistic = Callable[[NDArray[Any]], float]


class Interval(NamedTuple):
    """The bounds of a confidence interval."""

    low: float
    high: float


def wilson(k: float, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a rate of k hits in n trials (Wilson 1927); lies in [0, 1] and contains k / n.

    Raises:
        ValueError: n is not positive, k is not in [0, n] or the level not in (0, 1).
    """
    if not (n > 0 and 0 <= k <= n and 0 < level < 1):
        raise ValueError(f"no interval of {k} hits in {n} at level {level}")
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    p = k / n
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    low = 0.0 if k == 0 else min(max(centre - half, 0.0), p)
    high = 1.0 if k == n else max(min(centre + half, 1.0), p)
    return Interval(low, high)


def ratio_of_rates(k: float, n: int, base_k: float, base_n: int, level: float = 0.95) -> Interval:
    """The interval of ``(k/n) / (base_k/base_n)`` from both rates' Wilson bounds, taken as independent (MOVER-R, Donner & Zou 2012).

    Holds its width at rates of 0 and 1, where a bootstrap has none.

    Raises:
        ValueError: as `wilson`, or a base without hits.
    """
    if not base_k > 0:
        raise ValueError("no ratio to a rate of 0")
    (low, high), p = wilson(k, n, level), k / n
    (base_low, base_high), q = wilson(base_k, base_n, level), base_k / base_n
    product = (p * q) ** 2
    lower_scale, upper_scale = base_high * (2 * q - base_high), base_low * (2 * q - base_low)
    root_low = math.sqrt(max(product - low * base_high * (2 * p - low) * (2 * q - base_high), 0.0))
    root_high = math.sqrt(max(product - high * base_low * (2 * p - high) * (2 * q - base_low), 0.0))
    lower = (p * q - root_low) / lower_scale if abs(lower_scale) > 1e-9 else low / base_high
    return Interval(min(max(lower, 0.0), p / q), max((p * q + root_high) / upper_scale, p / q))


def clustered_bootstrap(
    values: ArrayLike,
    clusters: Sequence[Hashable],
    statistic: Statistic | None = None,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """Percentile interval of a statistic when whole clusters are drawn again, with replacement.

    Images of one prompt resemble each other: drawing images singly would make intervals too narrow. With one cluster alone
    its values are drawn singly, and the interval speaks of that prompt only.

    Args:
        values: shape ``(n, ...)``; the first axis is resampled.
        clusters: n labels, such as the prompts.
        statistic: from values to a number; the mean when left out (then fast).
        rng: the only source of randomness.
        level: the interval's confidence.
        resamples: how often to draw.

    Raises:
        ValueError: fewer than two values, labels of another number, or a statistic that is not finite.
    """
    array = np.asarray(values)
    members = _members(clusters, len(array))
    if statistic is None:
        sums = np.stack([array[index].sum(dtype=float) for index in members])
        draws = _draws(len(members), resamples, rng)
        results = (draws @ sums) / (draws @ np.array([len(index) for index in members], dtype=float))
    else:
        picks = (rng.integers(len(members), size=len(members)) for _ in range(resamples))
        results = np.array([statistic(array[np.concatenate([members[i] for i in pick])]) for pick in picks])
    if not np.isfinite(results).all():
        raise ValueError("the statistic is not finite in every resample")
    return _percentiles(results, level)


def ratio_bootstrap(
    before: ArrayLike,
    after: ArrayLike,
    clusters: Sequence[Hashable],
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = 2000,
) -> Interval | None:
    """The interval of ``mean(after) / mean(before)`` over pairs (same prompt, same seed), whole clusters drawn again.

    Where all resamples of hits (0 and 1) are alike (everything erased, nothing changed) the bootstrap would claim certainty from any
    number of images; there the interval comes from `ratio_of_rates`. None where no ratio can be stated: nothing there before, or
    in more than one resample of twenty.

    Args:
        before: shape ``(n,)``, of the base model, not negative.
        after: shape ``(n,)``, of the edited model, in the same order.
        clusters: n labels, such as the prompts.
        rng: the only source of randomness.
        level: the interval's confidence.
        resamples: how often to draw.

    Raises:
        ValueError: fewer than two pairs, or lengths that differ.
    """
    old, new = np.asarray(before, float), np.asarray(after, float)
    if old.shape != new.shape or old.ndim != 1:
        raise ValueError(f"before and after must be lists of equal length, not {old.shape} and {new.shape}")
    members = _members(clusters, len(old))
    draws = _draws(len(members), resamples, rng)
    below = draws @ np.array([old[index].sum() for index in members])
    above = draws @ np.array([new[index].sum() for index in members])
    defined = below > 0
    if not old.sum() > 0 or defined.mean() < 0.95:
        return None
    interval = _percentiles(above[defined] / below[defined], level)
    hits = bool(np.isin(old, (0, 1)).all() and np.isin(new, (0, 1)).all())
    if hits and interval.high - interval.low < 1e-12:
        return ratio_of_rates(float(new.sum()), len(new), float(old.sum()), len(old), level)
    return interval


def _members(clusters: Sequence[Hashable], n: int) -> list[NDArray[np.intp]]:
    """The positions of each cluster's values; of each value alone where there is one cluster."""
    if n < 2 or len(clusters) != n:
        raise ValueError(f"an interval needs two values or more and a cluster for each, not {n} and {len(clusters)}")
    found: dict[Hashable, list[int]] = {}
    for i, cluster in enumerate(clusters):
        found.setdefault(cluster, []).append(i)
    groups = list(found.values()) if len(found) > 1 else [[i] for i in range(n)]
    return [np.array(group, dtype=np.intp) for group in groups]


def _draws(clusters: int, resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """How often each cluster is drawn, ``(resamples, clusters)``."""
    return rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples).astype(float)


def _percentiles(results: NDArray[np.float64], level: float) -> Interval:
    low, high = np.quantile(results, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
