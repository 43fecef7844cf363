"""Confidence intervals: Wilson's for rates, cluster bootstraps over prompts for other statistics."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Statistic = Callable[[NDArray[Any]], float]


class Interval(NamedTuple):
    """The bounds of a confidence interval."""

    low: float
    high: float


def wilson(k: int, n: int, level: float = 0.95) -> Interval:
    """Returns Wilson's score interval for k hits in n trials (Wilson 1927); it is within [0, 1] and contains k / n.

    Raises:
        ValueError: n is not positive, k is outside [0, n], or the level is outside (0, 1).
    """
    if not (n > 0 and 0 <= k <= n and 0 < level < 1):
        raise ValueError(f"no interval of {k} hits in {n} at level {level}")
    from scipy.stats import binomtest  # imported here: it takes a second, and most uses of core need no interval

    low, high = binomtest(k, n).proportion_ci(level, method="wilson")
    return Interval(min(float(low), k / n), max(float(high), k / n))  # rounding must not exclude k / n


def ratio_of_rates(k: int, n: int, base_k: int, base_n: int, level: float = 0.95) -> Interval:
    """Returns the interval of ``(k/n) / (base_k/base_n)`` for two independent rates (MOVER-R, Donner & Zou 2012).

    The method combines both rates' Wilson bounds. At rates of 0 and 1, where a bootstrap interval has no width, it
    still has one.

    Raises:
        ValueError: invalid counts (see `wilson`), or ``base_k`` of 0.
    """
    if not base_k > 0:
        raise ValueError("no ratio to a rate of 0")
    low, high = wilson(k, n, level)
    base_low, base_high = wilson(base_k, base_n, level)
    p = k / n
    q = base_k / base_n
    product = (p * q) ** 2
    lower_scale = base_high * (2 * q - base_high)
    upper_scale = base_low * (2 * q - base_low)
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
    """Returns the percentile interval of a statistic, from resampling whole clusters with replacement.

    Images of one prompt resemble each other, so resampling single images would give intervals that are too narrow. With
    only one cluster, its single values are resampled, and the interval describes that prompt only.

    Args:
        values: shape ``(n, ...)``; the first axis is resampled.
        clusters: n labels, such as the prompts.
        statistic: function from values to a number; the mean by default, which has a fast path.
        rng: the only source of randomness.
        level: confidence level of the interval.
        resamples: number of resamples.

    Raises:
        ValueError: fewer than two values, a number of labels other than n, or a statistic that is not finite.
    """
    array = np.asarray(values)
    members = _cluster_members(clusters, len(array))
    if statistic is None:
        sums = np.stack([array[index].sum(dtype=float) for index in members])
        counts = _cluster_counts(len(members), resamples, rng)
        results = (counts @ sums) / (counts @ np.array([len(index) for index in members], dtype=float))
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
    """Returns the interval of ``mean(after) / mean(before)`` over pairs of one prompt and seed, resampling clusters.

    If all resamples of hits (0 and 1) are equal (everything erased, or nothing changed), the bootstrap would claim
    certainty from any number of images; then the interval comes from `ratio_of_rates`.

    Args:
        before: shape ``(n,)``, values of the base model, not negative.
        after: shape ``(n,)``, values of the edited model, in the same order.
        clusters: n labels, such as the prompts.
        rng: the only source of randomness.
        level: confidence level of the interval.
        resamples: number of resamples.

    Returns:
        The interval; None if `before` is all 0, in itself or in more than 5 % of the resamples.

    Raises:
        ValueError: fewer than two pairs, or different lengths.
    """
    old, new = _paired(before, after)
    members = _cluster_members(clusters, len(old))
    counts = _cluster_counts(len(members), resamples, rng)
    denominators = counts @ np.array([old[index].sum() for index in members])
    numerators = counts @ np.array([new[index].sum() for index in members])
    defined = denominators > 0
    if not old.sum() > 0 or defined.mean() < 0.95:
        return None
    interval = _percentiles(numerators[defined] / denominators[defined], level)
    if np.isin([old, new], (0, 1)).all() and interval.high - interval.low < 1e-12:
        return ratio_of_rates(int(new.sum()), len(new), int(old.sum()), len(old), level)
    return interval


def _paired(before: ArrayLike, after: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    old, new = np.asarray(before, float), np.asarray(after, float)
    if old.shape != new.shape or old.ndim != 1:
        raise ValueError(f"before and after must be lists of equal length, not {old.shape} and {new.shape}")
    return old, new


def _cluster_members(clusters: Sequence[Hashable], n: int) -> list[NDArray[np.intp]]:
    """Returns the indices of each cluster's values; with only one cluster, every value is its own cluster."""
    if n < 2 or len(clusters) != n:
        raise ValueError(f"an interval needs two values or more and a cluster for each, not {n} and {len(clusters)}")
    indices: dict[Hashable, list[int]] = {}
    for i, cluster in enumerate(clusters):
        indices.setdefault(cluster, []).append(i)
    groups = list(indices.values()) if len(indices) > 1 else [[i] for i in range(n)]
    return [np.array(group, dtype=np.intp) for group in groups]


def _cluster_counts(clusters: int, resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Returns how often each resample contains each cluster, ``(resamples, clusters)``."""
    return rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples).astype(float)


def _percentiles(results: NDArray[np.float64], level: float) -> Interval:
    low, high = np.quantile(results, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
