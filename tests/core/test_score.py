"""Scores: values, intervals and refused combinations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.example_scores import JUDGE, PROVENANCE

from efface.core.errors import EffaceError
from efface.core.score import Provenance, Score


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_without_images_there_is_no_value() -> None:
    for empty in [
        Score.rate("asr_post", "synonyms", 0, 0, JUDGE, PROVENANCE),
        Score.mean("clip_score", "near", [], [], rng(), None, PROVENANCE),
        Score.retention_ratio("retention", "near", [], [], [], rng(), JUDGE, PROVENANCE),
        Score.relative_erasure_rate("rer", "name", [], [], [], rng(), JUDGE, PROVENANCE),
    ]:
        assert (empty.value, empty.low, empty.high, empty.n) == (None, None, None, 0)
        assert "N/A" in empty.summary()
    for value in (0.0, 1.0):
        with pytest.raises(ValueError, match="without images"):
            Score("asr", "name", value, 0.0, 1.0, 0)


@pytest.mark.parametrize(
    "fields",
    [
        (0.5, None, 1.0, 3),
        (None, 0.0, 1.0, 3),
        (0.5, 0.9, 0.1, 3),
        (float("nan"), 0.0, 1.0, 3),
        (0.5, 0.0, float("inf"), 3),
        (0.5, 0.0, 1.0, -1),
    ],
)
def test_invalid_scores_are_refused(fields: tuple[Any, Any, Any, int]) -> None:
    with pytest.raises(ValueError, match="score rer/name"):
        Score("rer", "name", *fields)


def test_rates_means_and_ratios() -> None:
    rate = Score.rate("asr_pre", "name", 3, 10, JUDGE, PROVENANCE)
    assert rate.value == 0.3
    assert rate.low is not None
    assert rate.low < 0.3
    assert rate.n == 10
    single = Score.mean("clip_score", "name", [2.0], ["a"], rng(), None, PROVENANCE)
    assert (single.value, single.low, single.n) == (2.0, None, 1)
    before, after = np.tile([1, 1, 1, 0], 25), np.tile([1, 0, 0, 0], 25)
    kept = Score.retention_ratio("m", "g", before, after, range(100), rng(), JUDGE, PROVENANCE)
    erased = Score.relative_erasure_rate("m", "g", before, after, range(100), rng(), JUDGE, PROVENANCE)
    assert kept.value == pytest.approx(1 / 3)
    assert erased.value == pytest.approx(2 / 3)
    assert erased.low == pytest.approx(1 - (kept.high or 0))
    assert erased.high == pytest.approx(1 - (kept.low or 0))
    undefined = Score.relative_erasure_rate("m", "g", after * 0, after, range(100), rng(), JUDGE, PROVENANCE)
    assert undefined.value is None
    more_frequent = Score.relative_erasure_rate("m", "g", after, before, range(100), rng(), JUDGE, PROVENANCE)
    assert more_frequent.value == pytest.approx(-2)


def test_the_seeds_of_a_provenance_are_saved_as_ranges() -> None:
    provenance = Provenance("ab12", (*range(20000, 20144), 20200))
    assert provenance.to_dict()["seeds"] == "20000-20143,20200"
    assert Provenance.from_dict(provenance.to_dict()) == provenance
    saved = Score("rer", "name", 0.5, 0.4, 0.6, 10, JUDGE, provenance).to_dict()
    assert Score.from_dict(saved).provenance == provenance
    with pytest.raises(EffaceError, match="seeds must be text"):
        Score.from_dict({**saved, "provenance": {**saved["provenance"], "seeds": [1, 2]}})
