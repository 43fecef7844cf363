"""Results: exact round trips and refused files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.example_scores import PROVENANCE, score, scores
from hypothesis import given
from hypothesis import strategies as st

from efface.core.errors import EffaceError, UnknownNameError
from efface.core.io import atomic_write_json, read_json
from efface.core.result import DetectorId, Result, Score, Thresholds
from efface.core.serialization import json_hash

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
ROWS = st.tuples(FLOATS, FLOATS, FLOATS, st.integers(1, 10**6), st.text(st.characters(codec="utf-8")))
Rows = list[tuple[float, float, float, int, str]]


@given(st.lists(ROWS, unique_by=lambda item: item[4]), FLOATS)
def test_results_round_trip_exactly(tmp_path_factory: pytest.TempPathFactory, rows: Rows, limit: float) -> None:
    measured = [
        Score("m", group, value, min(a, b), max(a, b), n, DetectorId("d", "1"), PROVENANCE)
        for value, a, b, n, group in rows
    ]
    result = Result(
        (*measured, Score("empty", "g", None, None, None, 0)), {"spec": {"a": (1, 2)}}, Thresholds(erased=limit)
    )
    path = tmp_path_factory.mktemp("r") / "result.json"
    result.save(path)
    assert Result.load(path) == result
    assert Result.load(path).verdict == result.verdict
    again = path.read_bytes()
    Result.load(path).save(path)
    assert path.read_bytes() == again


def test_the_json_contains_detectors_and_the_verdict(tmp_path: Path) -> None:
    result = Result(tuple(scores()))
    data = result.to_dict()
    assert set(data["scores"][0]) >= {"metric", "group", "value", "low", "high", "n", "detector"}
    assert data["scores"][0]["detector"] == {"id": "pocket-judge", "version": "1", "threshold": 0.5}
    assert data["verdict"]["erasure"] == "erased"
    assert data["verdict"]["attack"] == "not attacked"
    assert data["verdict"]["passed"] is False
    assert result.score("rer", "name") == scores()[0]
    assert result.score("rer", "none") is None


def test_invalid_results_are_refused(tmp_path: Path) -> None:
    data = Result(tuple(scores())).to_dict()
    path = tmp_path / "r.json"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"schema": 99}, "schema"),
        ({"scores": [{}]}, "valid"),
        ({"metadata": None}, "metadata"),
        ({"thresholds": {}, "scores": 1}, "incomplete"),
    ]
    for change, match in cases:
        changed = {**data, **change}
        content = {name: changed[name] for name in ("scores", "thresholds", "metadata")}
        atomic_write_json(path, {**changed, "hash": json_hash(content)})
        with pytest.raises(EffaceError, match=match):
            Result.load(path)
    with pytest.raises(UnknownNameError, match="did you mean 'value'"):
        Score.from_dict({**data["scores"][0], "valu": 1})
    with pytest.raises(EffaceError, match="valid score"):
        Score.from_dict({**data["scores"][0], "n": 0})
    with pytest.raises(EffaceError, match="twice"):
        Result((score("a", "b", 0, 1), score("a", "b", 0, 1)))
    atomic_write_json(path, [1])
    with pytest.raises(EffaceError, match="not a result"):
        Result.load(path)
    assert read_json(path) == [1]


@pytest.mark.parametrize("value", [None, 0.999, "0.5", {"a": 1}])
def test_every_change_by_hand_is_noticed(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    Result(tuple(scores()), {"benchmark": {"split": "dev"}, "limit": 4}).save(path)

    def paths(data: Any) -> Iterator[list[Any]]:
        for key in data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ():
            yield [key]
            yield from ([key, *rest] for rest in paths(data[key]))

    saved = read_json(path)
    changeable = [keys for keys in paths(saved) if keys[0] not in ("verdict", "schema")]
    assert len(changeable) > 50
    for keys in changeable:
        data = read_json(path)
        place: Any = data
        for key in keys[:-1]:
            place = place[key]
        if place[keys[-1]] == value:
            continue
        place[keys[-1]] = value
        with pytest.raises(EffaceError, match="were changed after the evaluation"):
            Result.from_dict(data)
    without_hash = {key: item for key, item in saved.items() if key != "hash"}
    with pytest.raises(EffaceError, match="were changed after the evaluation"):
        Result.from_dict(without_hash)
