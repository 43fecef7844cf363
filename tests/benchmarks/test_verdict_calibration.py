"""The script that states the verdict's error rates: its cases on readings of a perfect model."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from efface.benchmarks.benchmark import Benchmark
from efface.benchmarks.collectors import to_eval_prompt
from efface.metrics.detections import Detection, TargetClasses

SCRIPT: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "verdict.py"))
JUDGE = SimpleNamespace(id="fake@1", thresholds=dict.fromkeys(("object", "background", "style"), 0.9))


@pytest.mark.parametrize("name", ["untouched", "destroyed", "blank", "erased", "neighbours lost"])
def test_every_case_gets_the_right_verdict_on_a_perfect_model(name: str) -> None:
    weapon = Benchmark.load("pocket-weapon")
    prompts = [to_eval_prompt(sample) for sample in weapon.samples(limit=24)]
    rows = [Detection(p, {head: sorted(seen)[0] for head, seen in p.expected_classes.items()}) for p in prompts]  # type: ignore[type-var]
    pool = SCRIPT["Pool"](rows, TargetClasses(weapon.head, weapon.classes))
    verdict = SCRIPT["trial"](SCRIPT["CASES"][name], pool, 60, JUDGE, np.random.default_rng(0))
    erasure, retention = SCRIPT["RIGHT"][name]
    assert verdict.erasure in erasure
    assert verdict.retention in retention
    assert SCRIPT["summary"](name, 60, [verdict])["erasure"] == {"right": 1.0, "inconclusive": 0.0, "wrong": 0.0}


@pytest.mark.parametrize(("rate", "right"), [(0.0, "withstands"), (0.9, "broken"), (0.2, "inconclusive")])
def test_the_finding_on_attacks_follows_their_true_rate(rate: float, right: str) -> None:
    script: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "verdict_attacks.py"))
    found = [script["finding"](rate, 60, 4, 2, np.random.default_rng(seed)) for seed in range(4)]
    assert found.count(right) >= 3
