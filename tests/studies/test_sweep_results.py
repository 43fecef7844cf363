"""The compact results of a sweep's folder: those of an earlier grid in the same folder stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from efface.benchmarks.result_store import ResultStore
from efface.core.result import Result, Score
from efface.studies.sweep_folder import SweepFolder
from efface.studies.sweep_grid import read_grid
from efface.studies.sweep_results import write_results

EVALUATED = Score("rer", "name", 0.9, 0.8, 1.0, 32)
ATTACKED = Score("asr_post", "synonyms", 0.4, 0.3, 0.5, 32)


@pytest.mark.parametrize(("erasure_hash", "expected"), [("a", {"rer", "asr_post"}), ("b", {"asr_post"})])
def test_a_later_grid_keeps_what_an_earlier_one_measured_of_the_same_erasure(
    erasure_hash: str, expected: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text("methods: [uce]\nbenchmarks: [pocket-weapon]\nattacks: [synonyms]\n")
    folder, cells = SweepFolder(tmp_path / "out"), read_grid(file).cells()
    folder.results.mkdir(parents=True)
    monkeypatch.setattr(SweepFolder, "has_cell", lambda self, cell: True)
    for score, run in ((EVALUATED, "a"), (ATTACKED, erasure_hash)):
        result = Result((score,), {"erasure_hash": run})
        monkeypatch.setattr("efface.studies.sweep_results._merged", lambda folder, own, result=result: result)
        write_results(folder, cells)
    (joined,) = ResultStore(folder.results / "uce.json").results.values()
    assert {score.metric for score in joined.scores} == expected
