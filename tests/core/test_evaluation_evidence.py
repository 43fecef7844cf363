"""Evaluations of an erasure of several concepts, attacks on other benchmarks, and results changed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.example_scores import score, scores

from efface.core.concept import Concept
from efface.core.errors import CorruptArtifactError
from efface.core.evaluation_evidence import ATTACKS, read_evaluations, with_attacks
from efface.core.result import Result, Score
from efface.core.spec import RunSpec

SPEC = RunSpec("pocket", {"unet": "aa"}, "esd", {}, (Concept("cat"), Concept("dog"), Concept("owl")))
WITHSTOOD = score("asr_post", "synonyms", 0.0, 0.1)


def result(*more: Score, concept: str = "cat", created: str = "1", **metadata: Any) -> Result:
    benchmark = {"name": f"pocket-{concept}", "concept": concept, "prompts_hash": "ab"}
    entries = {"erasure_hash": SPEC.hash, "created": created, "benchmark": benchmark, **metadata}
    table = {(item.metric, item.group): item for item in (*scores(), *more)}
    return Result(tuple(table.values()), entries)


def save(folder: Path, evaluated: Result, name: str) -> None:
    (folder / "evidence" / name).mkdir(parents=True)
    evaluated.save(folder / "evidence" / name / "result.json")


def test_concepts_that_no_evaluation_measures_are_named_and_do_not_pass(tmp_path: Path) -> None:
    others = {"other_concepts": ["dog", "owl"]}
    save(tmp_path, result(WITHSTOOD, **others), "cat")
    (evaluation,) = read_evaluations(tmp_path, SPEC)
    assert not evaluation.verdict.passed
    assert evaluation.verdict.headline == "cat: erased, kept, withstands; dog: not evaluated; owl: not evaluated"
    assert not evaluation.result.verdict.passed, "the result by itself does not pass either"
    assert "not for dog, owl" in evaluation.result.verdict.headline


def test_the_concept_with_the_worst_verdict_leads(tmp_path: Path) -> None:
    save(tmp_path, result(WITHSTOOD, created="9", other_concepts=["dog", "owl"]), "cat")
    save(tmp_path, result(WITHSTOOD, concept="owl", other_concepts=["cat", "dog"]), "owl")
    bad = score("rer", "name", 0.1, 0.2)
    save(tmp_path, result(WITHSTOOD, bad, concept="dog", other_concepts=["cat", "owl"]), "dog")
    first, *rest = read_evaluations(tmp_path, SPEC)
    assert first.verdict.headline.startswith("dog: partly erased, kept, withstands")
    assert [item.verdict.caveats for item in rest] == [("dog: partly erased",)] * 2
    assert not any(item.verdict.passed for item in (first, *rest))


def test_all_concepts_pass_together(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        save(tmp_path, result(WITHSTOOD, concept=name, other_concepts=["others"]), name)
    benchmark = {"name": "owls", "concept": "owl", "joint_concepts": ["Owl"], "prompts_hash": "cd"}
    save(tmp_path, result(WITHSTOOD, benchmark=benchmark, other_concepts=["cat", "dog"]), "owl")
    assert all(item.verdict.passed for item in read_evaluations(tmp_path, SPEC))


def test_an_evaluation_of_another_run_or_a_part_stands_for_no_concept(tmp_path: Path) -> None:
    save(tmp_path, result(WITHSTOOD), "cat")
    save(tmp_path, result(WITHSTOOD, concept="owl", limit=100), "owl")
    save(tmp_path, result(WITHSTOOD, concept="dog", erasure_hash="another"), "dog")
    headlines = {item.name: item.verdict.headline for item in read_evaluations(tmp_path, SPEC)}
    assert headlines["cat"].endswith("; dog: not evaluated; owl: limited to 100 images per group")


@pytest.mark.parametrize(("key", "passes"), [("ab", True), ("cd", False)])
def test_an_attack_on_another_benchmark_proves_no_resistance(key: str, passes: bool) -> None:
    attack = result(WITHSTOOD)
    benchmark = {**attack.metadata["benchmark"], "prompts_hash": key}
    attack = Result((WITHSTOOD,), {**attack.metadata, "benchmark": benchmark})
    verdict = with_attacks(result(), {"synonyms": attack}).verdict
    assert verdict.passed is passes
    assert passes or "on another benchmark (pocket-cat), which proves no resistance" in verdict.reasons[-1]


@pytest.mark.parametrize("where", ["cat", f"{ATTACKS}/synonyms"])
def test_a_result_changed_by_hand_is_named_with_its_file(where: str, tmp_path: Path) -> None:
    save(tmp_path, result(WITHSTOOD), where)
    path = tmp_path / "evidence" / where / "result.json"
    data = json.loads(path.read_text())
    data["scores"][0]["value"] = 1.0
    path.write_text(json.dumps(data))
    with pytest.raises(CorruptArtifactError, match=r"result\.json: the scores.*were changed.*evaluate again"):
        read_evaluations(tmp_path, SPEC)
