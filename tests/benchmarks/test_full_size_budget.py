"""The time limit of the full-size benchmark, which skips and interrupts parts."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny import tiny_model

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PERF = BENCHMARKS / "perf"


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(PERF))
    import full_size_budget

    return full_size_budget


def test_every_part_has_a_time_and_is_measured_on_a_gpu(budget: Any) -> None:
    from full_size_more import ALL_PARTS, FullBench

    assert set(budget.SECONDS) == set(ALL_PARTS)
    assert all(expected <= maximum for expected, maximum in budget.SECONDS.values())
    assert all(callable(getattr(FullBench, part)) for part in ALL_PARTS)
    script = (BENCHMARKS / "gpu.sh").read_text()
    assert set(re.search(r"^parts=(.*)$", script, re.M)[1].split(",")) == set(ALL_PARTS)  # type: ignore[index]


def test_the_gpu_script_requires_a_time_limit() -> None:
    for arguments in ([], ["out.json"]):
        done = subprocess.run([BENCHMARKS / "gpu.sh", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "benchmarks/gpu.sh 240" in done.stderr


def test_a_part_that_no_longer_fits_is_skipped(budget: Any) -> None:
    begun = False
    with pytest.raises(budget.OutOfTimeError, match="skipped"), budget.Budget(time.time() + 1).part("search"):
        begun = True
    assert not begun


def test_a_part_that_takes_too_long_is_interrupted(budget: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(budget.SECONDS, "search", (0.0, 0.1))
    with pytest.raises(budget.OutOfTimeError, match="interrupted"), budget.Budget(time.time() + 600).part("search"):
        time.sleep(300)


def test_without_a_limit_no_part_is_interrupted(budget: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(budget.SECONDS, "search", (0.0, 0.01))
    with budget.Budget().part("search"):
        time.sleep(0.05)


def test_a_failed_row_is_recorded_and_the_others_are_measured(budget: Any) -> None:
    from full_size_more import FullBench

    bench, found = FullBench(tiny_model(), 2, 2, 3, 1, say=lambda _: None), dict[str, Any]()

    def fails() -> dict[str, Any]:
        raise ValueError("too wide\nfor this")

    bench.attempt(found, "one", fails)
    bench.attempt(found, "two", lambda: {"seconds": 1.0})
    assert found == {"one": {"not_measured": "ValueError: too wide"}, "two": {"seconds": 1.0}}


def test_the_committed_gpu_numbers_have_the_parts_of_the_code(budget: Any) -> None:
    from full_size_more import ALL_PARTS

    report = json.loads((PERF / "full_size_gpu.json").read_text())
    assert report.keys() == {"machine", "beside", "model", "settings", *ALL_PARTS}
    assert all("duration" in report[part] for part in ALL_PARTS)
