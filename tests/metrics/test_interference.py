"""Interference, object by object, and the interval of a paired difference."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.fake_detector import CATS, fake_detections
from hypothesis import given, settings
from hypothesis import strategies as st

from efface.core.score import Provenance, Score
from efface.core.serialization import json_bytes, to_jsonable
from efface.metrics.interference import interference, paired_difference, phi_coefficient


def rows(shown: dict[str, list[int]], group: str = "other") -> list[tuple[str, str, str]]:
    """Rows of images; for each object, whether each of its images shows it."""
    return [
        (group, f"{name}/snow/photo", f"{name if hit else 'nothing'}/snow/photo")
        for name, hits in shown.items()
        for hit in hits
    ]


def newcombe(a: int, lost: int, gained: int, d: int) -> tuple[float, float]:
    old, new = ([1] * (a + lost) + [0] * (gained + d)), ([1] * a + [0] * lost + [1] * gained + [0] * d)
    n = len(old)
    scores = [Score.rate("x", "y", sum(hits), n, None, Provenance()) for hits in (old, new)]
    return paired_difference(*scores, phi_coefficient(np.array(old, float), np.array(new, float)))


def test_the_most_damaged_object_comes_first(rng, provenance):
    before = fake_detections(rows({"dog": [1] * 20, "owl": [1] * 20, "car": [1] * 10 + [0] * 10, "cat": [1] * 5}))
    after = fake_detections(rows({"dog": [1] * 19 + [0], "owl": [0] * 20, "car": [1] * 20, "cat": [0] * 5}))
    table = interference(
        before, after, ["other", "near"], rng=rng, provenance=provenance, excluded_classes=CATS.classes
    )
    assert [(row.object, row.change.value) for row in table] == [
        ("owl", -1.0),
        ("dog", pytest.approx(-0.05)),
        ("car", 0.5),
    ]
    owl, dog, car = (row.to_dict() for row in table)
    assert (owl["n"], owl["before"], owl["after"]) == (20, 1.0, 0.0)
    assert -1 == owl["change_low"] < owl["change_high"] < -0.7, "20 images leave an interval of positive width"
    assert dog["change_low"] < 0 < dog["change_high"]
    assert car["change_low"] > 0
    assert json_bytes(to_jsonable([owl, dog, car]))
    assert {(s.metric, s.group) for s in (table[0].before, table[0].after, table[0].change)} == {
        ("interference_before", "owl"), ("interference_after", "owl"), ("interference", "owl"),
    }  # fmt: skip


def test_without_images_there_are_no_rows(rng, provenance):
    assert interference(fake_detections([]), fake_detections([]), ["other"], rng=rng, provenance=provenance) == ()
    some = fake_detections(rows({"dog": [1]}))
    assert interference(some, fake_detections([]), ["other"], rng=rng, provenance=provenance) == ()
    with pytest.raises(ValueError, match="no interval"):
        paired_difference(Score("x", "y", None, None, None, 0), Score("x", "y", None, None, None, 0), 0.0)


def test_interference_of_styles(rng, provenance):
    before = fake_detections([("other", "dog/snow/sketch", "dog/snow/sketch")] * 5)
    after = fake_detections([("other", "dog/snow/sketch", "dog/snow/photo")] * 5)
    (row,) = interference(before, after, ["other"], rng=rng, provenance=provenance, head="style")
    assert (row.object, row.change.value) == ("sketch", -1.0)


def test_newcombes_published_examples():
    # both, lost, gained, neither; Newcombe (1998, table II, method 10) bounds lost - gained, so the signs are reversed
    for table, (low, high) in {
        (36, 12, 2, 0): (0.0569, 0.3404),
        (20, 12, 2, 16): (0.0562, 0.3292),
    }.items():
        got = newcombe(*table)
        assert (-got[1], -got[0]) == pytest.approx((low, high), abs=1e-3)


def test_the_interval_has_its_nominal_coverage(rng):
    hits, trials = 0, 400
    for _ in range(trials):
        old = rng.random(36) < 0.8
        new = np.where(rng.random(36) < 0.9, old, rng.random(36) < 0.3)
        cells = [int(np.sum(a & b)) for a, b in ((old, new), (old, ~new), (~old, new), (~old, ~new))]
        low, high = newcombe(*cells)
        truth = 0.9 * 0.8 + 0.1 * 0.3 - 0.8
        hits += low <= truth <= high
    assert 0.92 <= hits / trials <= 0.995


@settings(max_examples=60)
@given(*[st.integers(0, 30)] * 4)
def test_the_interval_contains_the_difference_and_has_width(both, lost, gained, neither):
    n = both + lost + gained + neither
    if n:
        low, high = newcombe(both, lost, gained, neither)
        assert -1 <= low <= (gained - lost) / n <= high <= 1
        assert low < high
