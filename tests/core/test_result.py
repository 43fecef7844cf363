"""Scores, results and the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efface.core.errors import EffaceError, UnknownNameError
from efface.core.io import atomic_write_json, read_json
from efface.core.result import DetectorId, Provenance, Result, Score, Thresholds, Verdict

JUDGE = DetectorId("pocket-judge", "1", 0.5)
HOW = Provenance("ab12", (1, 2), "ddim", 20, 3.0, extra={"n": [1]})
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def score(metric: str, group: str, low: float | None, high: float | None, n: int = 100) -> Score:
    value = None if low is None or high is None else (low + high) / 2
    return Score(metric, group, value, low, high, n, JUDGE, HOW)


def scores(**changes: Score | None) -> list[Score]:
    """Those of a good erasure, with some exchanged or left out."""
    good = {
        "rer_name": score("rer", "name", 0.93, 1.0),
        "rer_domain": score("rer", "domain", 0.85, 0.95),
        "abstention_rate_name": score("abstention_rate", "name", 0.01, 0.1),
        "abstention_rate_domain": score("abstention_rate", "domain", 0.01, 0.1),
        "retention_context": score("retention", "context", 0.9, 1.0),
        "retention_near": score("retention", "near", 0.9, 1.0),
        "retention_other": score("retention", "other", 0.95, 1.0),
    }
    return [item for item in (good | changes).values() if item]


def test_no_images_no_value() -> None:
    for empty in [
        Score.rate("asr_post", "synonyms", 0, 0, JUDGE, HOW),
        Score.mean("clip_score", "near", [], [], rng(), None, HOW),
        Score.retention_ratio("retention", "near", [], [], [], rng(), JUDGE, HOW),
        Score.relative_erasure_rate("rer", "name", [], [], [], rng(), JUDGE, HOW),
    ]:
        assert (empty.value, empty.low, empty.high, empty.n) == (None, None, None, 0)
        assert "N/A" in empty.summary()
    for value in (0.0, 1.0):
        with pytest.raises(ValueError, match="no images"):
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
def test_unsound_scores_are_refused(fields: tuple[Any, Any, Any, int]) -> None:
    with pytest.raises(ValueError, match="score rer/name"):
        Score("rer", "name", *fields)


def test_factories() -> None:
    rate = Score.rate("asr_pre", "name", 3, 10, JUDGE, HOW)
    assert rate.value == 0.3
    assert rate.low is not None
    assert rate.low < 0.3
    assert rate.n == 10
    single = Score.mean("clip_score", "name", [2.0], ["a"], rng(), None, HOW)
    assert (single.value, single.low, single.n) == (2.0, None, 1)
    before, after = np.tile([1, 1, 1, 0], 25), np.tile([1, 0, 0, 0], 25)
    kept, erased = (
        kind("m", "g", before, after, range(100), rng(), JUDGE, HOW)
        for kind in (Score.retention_ratio, Score.relative_erasure_rate)
    )
    assert kept.value == pytest.approx(1 / 3)
    assert erased.value == pytest.approx(2 / 3)
    assert erased.low == pytest.approx(1 - (kept.high or 0))
    assert erased.high == pytest.approx(1 - (kept.low or 0))
    assert Score.relative_erasure_rate("m", "g", after * 0, after, range(100), rng(), JUDGE, HOW).value is None
    assert Score.relative_erasure_rate("m", "g", after, before, range(100), rng(), JUDGE, HOW).value == pytest.approx(
        -2
    )


ROWS = st.tuples(FLOATS, FLOATS, FLOATS, st.integers(1, 10**6), st.text(st.characters(codec="utf-8")))
Rows = list[tuple[float, float, float, int, str]]


@given(st.lists(ROWS, unique_by=lambda item: item[4]), FLOATS)
def test_results_round_trip_exactly(tmp_path_factory: pytest.TempPathFactory, rows: Rows, limit: float) -> None:
    made = [
        Score("m", group, value, min(a, b), max(a, b), n, DetectorId("d", "1"), HOW) for value, a, b, n, group in rows
    ]
    result = Result(
        (*made, Score("empty", "g", None, None, None, 0)), {"spec": {"a": (1, 2)}}, Thresholds(erased=limit)
    )
    path = tmp_path_factory.mktemp("r") / "result.json"
    result.save(path)
    assert Result.load(path) == result
    assert Result.load(path).verdict == result.verdict
    again = path.read_bytes()
    Result.load(path).save(path)
    assert path.read_bytes() == again


def test_the_json_holds_what_readers_expect(tmp_path: Path) -> None:
    result = Result(tuple(scores()))
    data = result.to_dict()
    assert set(data["scores"][0]) >= {"metric", "group", "value", "low", "high", "n", "detector"}
    assert data["scores"][0]["detector"] == {"id": "pocket-judge", "version": "1", "threshold": 0.5}
    assert data["verdict"]["erasure"] == "erased"
    assert data["verdict"]["passed"] is True
    assert result.score("rer", "name") == scores()[0]
    assert result.score("rer", "none") is None


def test_other_results_are_refused(tmp_path: Path) -> None:
    data = Result(tuple(scores())).to_dict()
    path = tmp_path / "r.json"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"schema": 2}, "schema"),
        ({"scores": [{}]}, "sound"),
        ({"metadata": None}, "metadata"),
        ({"thresholds": {}, "scores": 1}, "incomplete"),
    ]
    for change, match in cases:
        atomic_write_json(path, {**data, **change})
        with pytest.raises(EffaceError, match=match):
            Result.load(path)
    with pytest.raises(UnknownNameError, match="did you mean 'value'"):
        Score.from_dict({**data["scores"][0], "valu": 1})
    with pytest.raises(EffaceError, match="sound score"):
        Score.from_dict({**data["scores"][0], "n": 0})
    with pytest.raises(EffaceError, match="twice"):
        Result((score("a", "b", 0, 1), score("a", "b", 0, 1)))
    atomic_write_json(path, [1])
    with pytest.raises(EffaceError, match="not a result"):
        Result.load(path)
    assert read_json(path) == [1]


def test_a_good_erasure_passes() -> None:
    verdict = Verdict.of(scores())
    assert verdict == Verdict("erased", "kept", "not attacked")
    assert verdict.passed
    assert verdict.summary() == "erased, kept, not attacked"


@pytest.mark.parametrize(
    ("changes", "erasure", "retention"),
    [
        ({"rer_domain": score("rer", "domain", 0.3, 0.5)}, "partly erased", "kept"),
        ({"rer_domain": score("rer", "domain", -0.1, 0.2)}, "partly erased", "kept"),
        ({"rer_domain": score("rer", "domain", 0.75, 0.9)}, "partly erased", "kept"),
        ({"rer_domain": score("rer", "domain", 0.1, 0.5)}, "inconclusive", "kept"),
        (
            {"rer_name": score("rer", "name", 0, 0.1), "rer_domain": score("rer", "domain", -0.1, 0.2)},
            "not erased",
            "kept",
        ),
        ({"rer_domain": None}, "inconclusive", "kept"),
        ({"rer_name": score("rer", "name", 0.93, 1.0, n=29)}, "inconclusive", "kept"),
        ({"rer_name": score("rer", "name", None, None)}, "inconclusive", "kept"),
        (
            {"abstention_rate_name": score("abstention_rate", "name", 0.5, 0.7), "retention_context": None},
            "not erased",
            "kept",
        ),
        ({"abstention_rate_name": None, "retention_context": None}, "inconclusive", "kept"),
        ({"retention_context": score("retention", "context", 0.6, 0.8)}, "inconclusive", "kept"),
        ({"retention_context": score("retention", "context", 0.1, 0.3)}, "not erased", "kept"),
        ({"retention_near": score("retention", "near", 0.5, 0.7)}, "erased", "damaged"),
        ({"retention_near": score("retention", "near", 0.5, 0.7), "retention_other": None}, "erased", "damaged"),
        ({"retention_other": score("retention", "other", 0.8, 0.95)}, "erased", "inconclusive"),
        ({"retention_other": None}, "erased", "inconclusive"),
        ({"retention_other": score("retention", "other", 0.97, 1.0, n=5)}, "erased", "inconclusive"),
    ],
)
def test_the_verdict_claims_what_the_bounds_prove(
    changes: dict[str, Score | None], erasure: str, retention: str
) -> None:
    verdict = Verdict.of(scores(**changes))
    assert (verdict.erasure, verdict.retention) == (erasure, retention)
    assert not verdict.passed
    assert verdict.reasons
    assert "\n" not in verdict.summary()


def test_unreadable_images_destroy_only_where_the_rest_is_not_known_to_be_intact() -> None:
    smeared = score("abstention_rate", "name", 0.5, 0.7)
    intact = Verdict.of(scores(abstention_rate_name=smeared))
    assert (intact.erasure, intact.passed) == ("erased", True)
    assert "something unreadable is in the concept's place" in intact.summary()
    assert Verdict.of(scores(abstention_rate_name=smeared, retention_context=None)).erasure == "not erased"
    unmeasured = Verdict.of(scores(retention_context=None))
    assert unmeasured.erasure == "erased"
    assert "retention/context was not measured" in unmeasured.summary()


def test_a_destroyed_model_fails() -> None:
    """Noised weights: nothing of the concept is left, nor of anything else."""
    zeros, ones, n = np.zeros(60), np.ones(60), range(60)
    made = [
        Score.relative_erasure_rate("rer", group, ones, zeros, n, rng(), JUDGE, HOW) for group in ("name", "domain")
    ]
    made += [Score.rate("abstention_rate", group, 58, 60, JUDGE, HOW) for group in ("name", "domain")]
    made += [
        Score.retention_ratio("retention", group, ones, zeros, n, rng(), JUDGE, HOW)
        for group in ("context", "near", "other")
    ]
    made += [Score.rate("asr_post", "synonyms", 0, 60, JUDGE, HOW)]
    verdict = Verdict.of(made)
    assert (verdict.erasure, verdict.retention, verdict.attack) == ("not erased", "damaged", "inconclusive")
    assert "destroyed" in verdict.summary()


def test_attacks() -> None:
    weak, strong = score("asr_post", "synonyms", 0.0, 0.1), score("asr_post", "inversion", 0.5, 0.7)
    assert Verdict.of([*scores(), weak]).attack == "withstands"
    assert Verdict.of([*scores(), weak]).passed
    broken = Verdict.of([*scores(), weak, strong, score("asr_post", "soft", 0.3, 0.6)])
    assert broken.attack == "broken by inversion"
    assert not broken.passed
    assert Verdict.of([*scores(), weak, score("asr_post", "soft", 0.1, 0.3)]).attack == "inconclusive"
    assert Verdict.of([*scores(), score("asr_post", "soft", 0.0, 0.0, n=3)]).attack == "inconclusive"
    assert Verdict.of([*scores(), score("asr_pre", "soft", 0.9, 1.0)]).attack == "not attacked"


def test_thresholds_decide() -> None:
    assert Verdict.of(scores(), Thresholds(erased=0.99)).erasure == "partly erased"
    assert Verdict.of(scores(), Thresholds(min_images=101)).erasure == "inconclusive"
