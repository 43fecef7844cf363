"""Confidence intervals: published values, bounds and coverage."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efface.core.intervals import clustered_bootstrap, ratio_bootstrap, ratio_of_rates, wilson

RATES = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(81, 263, 0.255274, 0.366211), (15, 148, 0.062386, 0.160541), (0, 20, 0.0, 0.161125), (1, 29, 0.006113, 0.171755)],
)
def test_wilson_as_published(k: int, n: int, low: float, high: float) -> None:
    """Newcombe (1998), table I; the closed form at k = 0."""
    assert wilson(k, n) == pytest.approx((low, high), abs=6e-4)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 30), (7, 30), (29, 30), (143, 144), (2500, 5000)])
def test_wilson_follows_its_formula(k: int, n: int, level: float) -> None:
    """Wilson (1927): centre and half-width written out."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = (k / n + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(k / n * (1 - k / n) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert wilson(k, n, level) == pytest.approx((centre - half, centre + half), abs=1e-12)


@given(RATES, st.floats(0.01, 0.999))
def test_wilson_is_within_0_and_1_contains_the_rate_and_is_symmetric(rate: tuple[int, int], level: float) -> None:
    k, n = rate
    interval = wilson(k, n, level)
    assert 0 <= interval.low <= k / n <= interval.high <= 1
    assert interval.high - interval.low > 0
    mirrored = wilson(n - k, n, level)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx(interval, abs=1e-9)


@pytest.mark.parametrize(("k", "n", "level"), [(0, 0, 0.95), (3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)])
def test_wilson_refuses_invalid_counts_and_levels(k: int, n: int, level: float) -> None:
    with pytest.raises(ValueError, match="no interval"):
        wilson(k, n, level)


@given(RATES, RATES.filter(lambda rate: rate[0] > 0))
def test_ratio_of_rates_contains_the_ratio(rate: tuple[int, int], base: tuple[int, int]) -> None:
    interval = ratio_of_rates(*rate, *base)
    ratio = rate[0] / rate[1] / (base[0] / base[1])
    assert 0 <= interval.low <= ratio <= interval.high < np.inf
    assert interval.high > interval.low


def test_ratio_of_rates_covers_the_true_ratio_as_often_as_its_level_says() -> None:
    generator, hits = rng(), 0
    for _ in range(400):
        after, before = generator.binomial(60, 0.1), generator.binomial(60, 0.8)
        low, high = ratio_of_rates(after, 60, before, 60)
        hits += low <= 0.125 <= high
    assert 0.92 <= hits / 400 <= 0.99


def test_the_bootstrap_of_a_mean_is_as_wide_as_theory_says() -> None:
    values = rng().normal(5, 2, 400)
    low, high = clustered_bootstrap(values, range(400), rng=rng())
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)
    slow = clustered_bootstrap(values, range(400), np.mean, rng=rng(), resamples=1000)
    assert slow == pytest.approx((low, high), abs=0.04)


def test_clusters_widen_the_interval() -> None:
    values = np.repeat(rng().normal(size=20), 10)
    prompts = np.repeat(np.arange(20), 10).tolist()
    clustered = clustered_bootstrap(values, prompts, rng=rng())
    single = clustered_bootstrap(values, range(200), rng=rng())
    assert clustered.high - clustered.low == pytest.approx((single.high - single.low) * 10**0.5, rel=0.15)
    assert clustered_bootstrap(values, ["one"] * 200, rng=rng()) == single, "one cluster: its values are resampled"
    ragged = clustered_bootstrap([0.0, 0.0, 1.0], ["a", "a", "b"], rng=rng())
    assert ragged == (0.0, 1.0)


def test_the_bootstrap_is_reproducible_and_refuses_too_few_values() -> None:
    values = rng().random((50, 2))
    runs = [
        clustered_bootstrap(values, range(50), lambda v: float(np.linalg.norm(v.mean(0))), rng=rng(), resamples=50)
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    for few, labels in [([1.0], ["a"]), ([], []), ([1.0, 2.0], ["a"])]:
        with pytest.raises(ValueError, match="two values"):
            clustered_bootstrap(few, labels, rng=rng())
    with pytest.raises(ValueError, match="finite"):
        clustered_bootstrap([1.0, np.nan], ["a", "b"], rng=rng())


def test_ratio_bootstrap_uses_the_pairing() -> None:
    generator = rng()
    before = (generator.random(300) < 0.7).astype(float)
    after = before * (generator.random(300) < 0.95)
    interval = ratio_bootstrap(before, after, range(300), rng=rng())
    assert interval is not None
    assert interval.low < after.mean() / before.mean() < interval.high
    loose = ratio_of_rates(int(after.sum()), 300, int(before.sum()), 300)
    assert interval.high - interval.low < 0.6 * (loose.high - loose.low)


@settings(max_examples=25)
@given(st.integers(2, 200))
def test_ratio_bootstrap_never_claims_certainty(n: int) -> None:
    ones, zeros = np.ones(n), np.zeros(n)
    gone = ratio_bootstrap(ones, zeros, range(n), rng=rng(), resamples=50)
    same = ratio_bootstrap(ones, ones, range(n), rng=rng(), resamples=50)
    assert gone is not None
    assert same is not None
    assert gone.low == 0
    assert gone.high > 1 / n
    assert same.low < 1 - 1 / n
    assert ratio_bootstrap(zeros, ones, range(n), rng=rng(), resamples=50) is None


def test_ratio_bootstrap_gives_none_for_rare_hits_and_refuses_unequal_lengths() -> None:
    rare = np.zeros(40)
    rare[0] = 1
    assert ratio_bootstrap(rare, rare, range(40), rng=rng()) is None
    with pytest.raises(ValueError, match="equal length"):
        ratio_bootstrap([1, 1], [1], ["a", "b"], rng=rng())
