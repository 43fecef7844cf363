"""The full-size performance benchmark, on a narrow model."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import processes
from helpers.tiny import tiny_model

PERF = Path(__file__).parents[2] / "benchmarks" / "perf"
RATIOS = {
    "search": [
        (f"ratio_{form}", f"outside_in_{form}", "inside_out") for form in ("pooled", "as_published", "unlearn_diff")
    ],
    "step": [(f"{name}_ratio_without_pool", f"{name}_without_pool", name) for name in ("sage", "advunlearn")],
    "load": [("ratio_to_plain", "load_model", "plain")],
}


def full_size(arguments: Sequence[str], output: Path) -> None:
    """Runs the benchmark on a narrow model in this process."""
    processes.redirect(output)
    torch.set_num_threads(1)
    sys.path.insert(0, str(PERF))
    sys.argv = ["full_size.py", "--tiny", "--beside", "nothing", *arguments]
    runpy.run_path(str(PERF / "full_size.py"), run_name="__main__")


def run_full_size(out: Path, *arguments: str) -> dict[str, Any]:
    """Runs the benchmark in a process of its own and returns its report."""
    output = out.with_name("output")
    process = processes.start(full_size, ("--out", str(out), *arguments), output)
    process.join()
    assert process.exitcode == 0, Path(f"{output}.err").read_text()
    assert "ratio_" in Path(f"{output}.out").read_text()
    return json.loads(out.read_text())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_full_size(tmp_path_factory.mktemp("perf") / "full_size.json")


def test_parts_left_out_by_only_are_unchanged(report: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "full_size.json"
    out.write_text(json.dumps(report))
    again = run_full_size(out, "--only", "load")
    assert {part for part in again if again[part] != report[part]} == {"load"}


def test_the_report_describes_machine_and_model(report: dict[str, Any]) -> None:
    assert {"cpu", "cores", "threads", "torch", "device", "dtype"} <= report["machine"].keys()
    assert report["beside"] == "nothing"
    assert report["settings"] == {"batch": 4, "search_steps_measured": 2, "guided_steps_measured": 2, "rounds": 1}
    assert (report["model"]["tokens"], report["model"]["width"], report["model"]["latent"]) == (77, 32, [4, 8, 8])


def test_every_number_has_a_kind_and_a_source(report: dict[str, Any]) -> None:
    parts = ("memory", "search", "step", "run", "load")
    numbers = {f"{part}.{name}": row for part in parts for name, row in report[part].items()}
    assert all(row["how"] in ("measured", "extrapolated", "counted") and row["from"] for row in numbers.values())
    values = {
        name: next(row[key] for key in ("seconds", "minutes", "value") if key in row) for name, row in numbers.items()
    }
    assert all(value > 0 for value in values.values())
    assert {numbers[f"run.{name}"]["how"] for name in ("warm_up", "attacked", "pools", "whole")} == {"extrapolated"}
    assert {
        numbers[name]["how"] for name in ("memory.peak_gb", "search.inside_out", "step.sage", "load.load_model")
    } == {"measured"}
    assert {numbers[f"search.outside_in_{form}"]["how"] for form in ("pooled", "as_published")} == {"extrapolated"}


def test_ratios_match_their_numbers(report: dict[str, Any]) -> None:
    for part, rows in RATIOS.items():
        for name, slow, fast in rows:
            assert report[part][name]["value"] == pytest.approx(
                report[part][slow]["seconds"] / report[part][fast]["seconds"]
            )
    minutes = {name: row["minutes"] for name, row in report["run"].items() if "minutes" in row}
    assert minutes["attacked"] == pytest.approx(800 * report["step"]["sage"]["seconds"] / 60)
    assert minutes["whole"] == pytest.approx(minutes["warm_up"] + minutes["attacked"] + minutes["pools"])


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(PERF))
    from full_size_parts import Bench

    return Bench(tiny_model(), batch=2, search_steps_measured=2, guided_steps_measured=3, rounds=1, say=lambda _: None)


def test_unmeasured_steps_are_extrapolated_linearly(bench: Any) -> None:
    from clocks import Clock

    clock = Clock(torch.device("cpu"))
    bench.begin(clock)
    # by hand: 2 of 30 steps, 3 of 25.5 guided steps for each of 4 states
    clock.seconds |= {"sampling": 12.0, "search": 8.0, "search: sampling": 6.0}
    clock.counts["sampling"] = 12
    sys.modules["stand_ins"].NoPool.num_batches = 4
    step = bench.step_of([20.0], clock, 2, "step")
    rest, longer = 20 - 8 - 6, 25.5 / 3
    assert step["seconds"] == pytest.approx(rest + 2 * 15 + 6 * 15 * longer + 6 * longer)
    assert step["how"] == "extrapolated"
    whole = bench.step_of([20.0], Clock(torch.device("cpu")), 30, "step")
    assert (whole["seconds"], whole["how"]) == (20.0, "measured")


@pytest.mark.parametrize("limit", [0, 2])
def test_without_a_pool_each_state_is_on_its_own_trajectory(bench: Any, limit: int) -> None:
    from clocks import Clock
    from stand_ins import NoPool

    model, clock = bench.model, Clock(torch.device("cpu"))
    NoPool.clock, NoPool.limit, NoPool.num_batches = clock, limit, 0
    pool = NoPool(model, ["a gun", "a cat"], trajectories_per_prompt=1, num_inference_steps=5)
    batch = pool._batch(torch.tensor([1, 0]), torch.tensor([3, 1]))
    assert clock.counts["sampling"] == (limit or 4)
    assert batch.prompt_index.tolist() == [1, 0]
    assert batch.t.tolist() == [int(pool.timesteps[clock.counts["sampling"] - 1])] * 2
    expected = model.predict(batch.z, batch.t, model.encode(["a cat", "a gun"])).value
    torch.testing.assert_close(batch.conditional, expected, rtol=1e-4, atol=1e-5)
