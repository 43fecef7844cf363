"""Interference, object by object, and the interval of a paired difference."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.fake_detector import CATS, told
from hypothesis import given, settings
from hypothesis import strategies as st

from efface.core.score import Provenance, Score
from efface.core.serialization import json_bytes, to_jsonable
from efface.metrics.interference import interference, paired_difference, phi


def rows(seen: dict[str, list[int]], group: str = "other") -> list[tuple[str, str, str]]:
    """By object, whether each of its images shows it."""
    return [
        (group, f"{name}/snow/photo", f"{name if hit else 'nothing'}/snow/photo")
        for name, hits in seen.items()
        for hit in hits
    ]


def newcombe(a: int, lost: int, gained: int, d: int) -> tuple[float, float]:
    old, new = ([1] * (a + lost) + [0] * (gained + d)), ([1] * a + [0] * lost + [1] * gained + [0] * d)
    n = len(old)
    scores = [Score.rate("x", "y", sum(hits), n, None, Provenance()) for hits in (old, new)]
    return paired_difference(*scores, phi(np.array(old, float), np.array(new, float)))


def test_the_most_damaged_object_comes_first(rng, how):
    before = told(rows({"dog": [1] * 20, "owl": [1] * 20, "car": [1] * 10 + [0] * 10, "cat": [1] * 5}))
    after = told(rows({"dog": [1] * 19 + [0], "owl": [0] * 20, "car": [1] * 20, "cat": [0] * 5}))
    table = interference(before, after, ["other", "near"], rng=rng, provenance=how, without=CATS.classes)
    assert [(row.object, row.change.value) for row in table] == [
        ("owl", -1.0),
        ("dog", pytest.approx(-0.05)),
        ("car", 0.5),
    ]
    owl, dog, car = (row.to_dict() for row in table)
    assert (owl["n"], owl["before"], owl["after"]) == (20, 1.0, 0.0)
    assert -1 == owl["change_low"] < owl["change_high"] < -0.7, "certainty of 20 images has its width"
    assert dog["change_low"] < 0 < dog["change_high"]
    assert car["change_low"] > 0
    assert json_bytes(to_jsonable([owl, dog, car]))
    assert {(s.metric, s.group) for s in (table[0].before, table[0].after, table[0].change)} == {
        ("interference_before", "owl"), ("interference_after", "owl"), ("interference", "owl"),
    }  # fmt: skip


def test_no_images_no_rows(rng, how):
    assert interference(told([]), told([]), ["other"], rng=rng, provenance=how) == ()
    some = told(rows({"dog": [1]}))
    assert interference(some, told([]), ["other"], rng=rng, provenance=how) == ()
    with pytest.raises(ValueError, match="without images"):
        paired_difference(Score("x", "y", None, None, None, 0), Score("x", "y", None, None, None, 0), 0.0)


def test_styles_have_a_table_too(rng, how):
    before = told([("other", "dog/snow/sketch", "dog/snow/sketch")] * 5)
    after = told([("other", "dog/snow/sketch", "dog/snow/photo")] * 5)
    (row,) = interference(before, after, ["other"], rng=rng, provenance=how, head="style")
    assert (row.object, row.change.value) == ("sketch", -1.0)


def test_newcombes_own_examples():
    # both, lost, gained, neither; bounds of gained - lost turned round from Newcombe's first - second (1998, table II, method 10)
    for table, (low, high) in {
        (36, 12, 2, 0): (0.0569, 0.3404),
        (20, 12, 2, 16): (0.0562, 0.3292),
    }.items():
        got = newcombe(*table)
        assert (-got[1], -got[0]) == pytest.approx((low, high), abs=1e-3)


def test_the_interval_covers(rng):
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
