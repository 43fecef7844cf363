"""Erases, attacks and evaluates on an embedded model, and reads values of the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from efface import api
from efface.benchmarks.benchmark import Benchmark
from efface.core.result import Result
from efface.models.editable import EditableModel

OF_ATTACKS = ("asr_pre", "asr_post", "reproduction_rate")
"""Metrics whose group is an attack's label, which may state a limit."""


def value(result: Result, metric: str, group: str) -> float:
    of_attack = metric in OF_ATTACKS
    score = result.attack_scores(metric).get(group) if of_attack else result.score(metric, group)
    assert score is not None
    assert score.value is not None, score.summary()
    return score.value


def erase_and_evaluate(
    model: EditableModel, method: str, benchmark: str | Path, folder: Path, limit: int | None, **config: Any
) -> Result:
    concept = Benchmark.load(benchmark).concept
    api.erase(concept, out=folder, model=model, method=method, config=config, quick_evaluation=False)
    api.attack(folder, "synonyms", benchmark, model=model, limit=limit)
    return api.evaluate(folder, benchmark, model=model, limit=limit)


def assert_effect(result: Result, *, name: float, other: float) -> None:
    assert value(result, "rer", "name") >= name, result.summary()
    assert value(result, "retention", "other") >= other, result.summary()
    assert value(result, "retention", "near") >= 0.85, result.summary()
    assert value(result, "retention", "context") >= 0.8, result.summary()
    assert value(result, "asr_post", "synonyms") > value(result, "asr_pre", "synonyms"), (
        "synonyms reveal more than the name"
    )
