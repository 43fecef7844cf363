"""The benchmark of the methods' steps: what counts as a step, and the ratios that it writes."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

PERF = Path(__file__).parents[2] / "benchmarks" / "perf"


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(PERF))
    spec = importlib.util.spec_from_file_location("method_costs", PERF / "methods.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "method_costs", module)
    spec.loader.exec_module(module)
    return module


def test_steps_of_the_last_training_loop_count_alone(costs: Any) -> None:
    clock = costs.StepClock()
    for phase, updates in (("warm-up", 2), ("train", 3), ("generating images", 0)):
        clock.start(phase, 3, 0)
        for done in range(updates):
            clock.update(done + 1, {"loss": 1.0, "grad_norm": 1.0})
        clock.update(3, {})
    assert len(clock.seconds) == 3


def test_numbers_are_relative_to_esd_and_others_are_kept(
    costs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {"esd": iter([1.0, 3.0]), "sage": iter([8.0])}
    measured = lambda name: {"seconds_per_step": next(seconds[name]), "peak_memory_mib": 10.0}  # noqa: E731
    monkeypatch.setattr(costs, "measure_elsewhere", measured)
    out = tmp_path / "methods.json"
    out.write_text(json.dumps({"methods": {"uce": {"seconds_per_step": 1.0}}}))
    costs.main(["sage"], here=False, out=out)
    rows = json.loads(out.read_text())["methods"]
    assert list(rows) == ["esd", "sage", "uce"]
    assert rows["sage"]["relative_seconds_per_step"] == 4
    assert rows["esd"]["relative_peak_memory"] == 1
