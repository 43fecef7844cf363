"""MACE's harmonic means H_o and H_c."""

from __future__ import annotations

from statistics import harmonic_mean as reference

import numpy as np
import pytest
from helpers.fake_detector import CATS, fake_detections
from hypothesis import given
from hypothesis import strategies as st

from efface.core.score import DetectorId, Provenance, Score
from efface.metrics.harmonic import h_c, h_o, harmonic_mean


def term(hits: int, n: int, metric: str = "a") -> Score:
    return Score.rate(metric, "name", hits, n, DetectorId("fake", "1", 0.9), Provenance())


def model(name: int, domain: int, near: int, n: int = 50):
    """Of n images a group, how many show the expected class: a cat for name and domain, a dog for near."""
    rows = []
    for group, expected, hits in (("name", "cat", name), ("domain", "lion", domain), ("near", "dog", near)):
        rows += [(group, f"{expected}/-/-", f"{expected if i < hits else 'nothing'}/snow/photo") for i in range(n)]
    return fake_detections(rows)


def test_maces_formulas(rng, provenance):
    score = h_o(model(5, 20, 45), CATS, rng=rng, provenance=provenance)
    assert score.value == pytest.approx(3 / (1 / 0.9 + 1 / 0.9 + 1 / 0.6))
    assert (score.metric, score.group, score.n, score.detector) == ("h_o", "all", 150, DetectorId("fake", "1", 0.9))
    parts = score.provenance.extra["terms"]
    assert {name: part["value"] for name, part in parts.items()} == pytest.approx(
        {"efficacy": 0.9, "specificity": 0.9, "generality": 0.6}
    )
    assert h_c(model(5, 20, 45), CATS, rng=rng, provenance=provenance).value == pytest.approx(0.9)
    assert h_c(model(5, 20, 45), CATS, rng=rng, provenance=provenance).metric == "h_c"


@pytest.mark.parametrize("hits", [(50, 0, 50), (0, 50, 50), (0, 0, 0), (50, 50, 0)])
def test_one_zero_term_makes_the_mean_zero(hits, rng, provenance):
    score = h_o(model(*hits), CATS, rng=rng, provenance=provenance)
    assert (score.value, score.low) == (0, 0)
    assert score.high is not None
    assert score.high > 0


def test_a_missing_term_gives_no_value(rng, provenance):
    for table in (fake_detections([]), fake_detections([("name", "cat/-/-", "nothing/snow/photo")] * 9)):
        for metric in (h_o, h_c):
            score = metric(table, CATS, rng=rng, provenance=provenance)
            assert (score.value, score.low, score.high) == (None, None, None)
    with pytest.raises(ValueError, match="at least one term"):
        harmonic_mean("h", [])
    with pytest.raises(ValueError, match="must be rates"):
        harmonic_mean("h", [Score("a", "b", 1.5, None, None, 3), term(1, 2)])


def test_terms_without_an_interval_give_none():
    score = harmonic_mean("h", [Score("a", "b", 0.5, None, None, 3), term(1, 2)])
    assert (score.value, score.low) == (0.5, None)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=4))
def test_value_is_the_harmonic_mean_and_lies_within_its_bounds(hits):
    terms = [term(each, 60, str(i)) for i, each in enumerate(hits)]
    score = harmonic_mean("h", terms)
    assert score.value == pytest.approx(reference([each / 60 for each in hits]))
    assert score.low is not None
    assert score.high is not None
    assert 0 <= score.low <= score.value <= score.high <= 1
    assert score.low < score.high
    assert score.low >= min(each.low for each in terms) - 1e-9
    assert score.value <= max(each / 60 for each in hits) + 1e-9


def test_the_interval_has_its_nominal_coverage(rng):
    truth = 3 / (1 / 0.95 + 1 / 0.8 + 1 / 0.6)
    covered = 0
    for _ in range(500):
        score = harmonic_mean("h", [term(int(rng.binomial(80, p)), 80, str(p)) for p in (0.95, 0.8, 0.6)])
        assert score.low is not None
        assert score.high is not None
        covered += score.low <= truth <= score.high
    assert 0.92 <= covered / 500 <= 0.99


def test_terms_of_different_detectors_name_no_detector():
    other = Score.rate("b", "name", 1, 2, DetectorId("else", "1"), Provenance())
    assert harmonic_mean("h", [term(1, 2), other]).detector is None
    assert np.isfinite(harmonic_mean("h", [term(1, 2), other]).value)
