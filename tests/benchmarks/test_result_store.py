"""Many results in one file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from efface.benchmarks.result_store import ResultKey, ResultStore
from efface.core.errors import EffaceError
from efface.core.registry import METHODS
from efface.core.result import DetectorId, Provenance, Result, Score, Thresholds

PROVENANCE = Provenance("ab" * 32, (20000, 20001, 20005), "ddim", 20, 3.0, extra={"thresholds": {"object": 0.5}})
SCORE = Score("rer", "name", 0.9, 0.8, 0.95, 144, DetectorId("judge", "1", 0.5), PROVENANCE)
RESULT = Result((SCORE, replace(SCORE, group="domain", detector=None)), {"model": "pocket"}, Thresholds(erased=0.7))
KEYS = [
    ResultKey("pocket-weapon", 0),
    ResultKey("pocket-weapon", 2, variant="esd-text"),
    ResultKey("pocket-weapon", 1, joint=True),
    ResultKey("pocket-weapon", 0, transferred_to="pocket-sibling"),
    ResultKey("pocket-weapon", 0, variant="esd-text", model="pocket-flow"),
]


def test_results_are_read_as_they_were_saved(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "esd.json")
    for key in KEYS:
        store.add(key, RESULT)
    store.save()
    assert ResultStore(tmp_path / "esd.json").results == dict.fromkeys(sorted(KEYS), RESULT)


def test_shared_provenances_are_written_once_and_scores_one_a_line(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "esd.json")
    store.add(KEYS[0], RESULT)
    store.add(KEYS[1], RESULT)
    store.save()
    text = store.path.read_text()
    assert len(json.loads(text)["provenances"]) == 1
    assert sum('["rer", ' in line for line in text.splitlines()) == 4
    assert '"seeds": "20000-20001,20005"' in text


@pytest.mark.parametrize("key", KEYS)
def test_keys_are_parsed_as_they_were_written(key: ResultKey) -> None:
    assert ResultKey.parse(str(key)) == key


@pytest.mark.parametrize("text", ["pocket-weapon", "pocket-weapon/seed-x", "pocket-weapon/seed-0/other-1"])
def test_other_text_is_no_key(text: str) -> None:
    with pytest.raises(EffaceError, match="not the name of a result"):
        ResultKey.parse(text)


def test_another_schema_is_refused(tmp_path: Path) -> None:
    (tmp_path / "esd.json").write_text('{"schema": 0}')
    with pytest.raises(EffaceError, match="schema version 3"):
        ResultStore(tmp_path / "esd.json")


def test_the_committed_results_are_readable() -> None:
    folder = Path(__file__).parents[2] / "docs" / "results"
    paths = [path for path in folder.glob("*.json") if path.stem in METHODS.names()]
    results = [(path.stem, *item) for path in paths for item in ResultStore(path).results.items()]
    assert len(results) > 50
    for method, key, result in results:
        score = result.score("rer", "name")
        assert score is not None
        least = 24 if key.joint else 36  # prompts for the other concepts are left out
        assert score.n >= least, f"too few questions or images of {method} {key}"
