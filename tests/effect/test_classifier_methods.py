"""The effect of FAMR on pocket-classifier, and the baselines; the thresholds are those that the method must reach."""

from __future__ import annotations

from pathlib import Path

import pytest

import efface
from efface.core.concept import Concept
from efface.core.result import Result

CHANCE = 1 / 58
TOOLS = ("hammer", "wrench", "scissors", "fork and knife", "key", "screwdriver")


def scores(result: Result) -> dict[tuple[str, str], float | None]:
    return {(score.metric, score.group): score.value for score in result.scores}


def test_famr_forgets_a_class_and_keeps_the_others(tmp_path: Path) -> None:
    model = efface.load_model("pocket-classifier")
    erasure = efface.erase("owl", out=tmp_path / "e", model=model, method="famr")
    measured = scores(efface.evaluate(tmp_path / "e", model=model, limit=40))
    assert measured["accuracy", "name"] <= CHANCE
    assert measured["accuracy", "domain"] <= CHANCE
    assert measured["retention", "near"] >= 0.98
    assert measured["retention", "other"] >= 0.98
    bounds = (erasure.effect or {})["notes"]["bounds"]
    assert bounds["parameters"]["measured"] <= bounds["parameters"]["bound"]
    assert bounds["logits"]["largest_share"] <= 1


@pytest.mark.effect
@pytest.mark.parametrize("name", ["cat", "weapon", "mosaic", "owner"])
def test_famr_on_every_test_benchmark_in_a_twentieth_of_the_time(name: str, tmp_path: Path) -> None:
    from efface.benchmarks.classifier.benchmark import ClassifierBenchmark

    model, benchmark = efface.load_model("pocket-classifier"), ClassifierBenchmark.load(f"pocket-classifier-{name}")
    efface.erase(benchmark.concept, out=tmp_path / "e", model=model, method="famr")
    measured = scores(efface.evaluate(tmp_path / "e", model=model))
    assert measured["accuracy", "domain"] <= CHANCE
    assert measured["retention", "other"] >= 0.98
    if benchmark.retrained:
        assert measured["time_share_of_retraining", "all"] <= 1 / 20


@pytest.mark.effect
@pytest.mark.parametrize("method", ["salun", "fine_tuning"])
def test_baselines_keep_other_classes(method: str, tmp_path: Path) -> None:
    model = efface.load_model("pocket-classifier")
    efface.erase(Concept("tool", kind="domain", synonyms=TOOLS), out=tmp_path / "e", model=model, method=method)
    effect = efface.Erasure.load(tmp_path / "e").effect or {}
    assert effect["retained"]["after"]["right"] >= 29, "of 32 images to keep"
    if method == "salun":
        assert effect["concept"]["after"]["right"] <= 8, "of 32 images to forget"
