"""What an attack or an evaluation adds to the verdict, and what proves nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from helpers.small_benchmark import small_benchmark

from efface import api
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.evaluation_evidence import read_evaluations
from efface.core.result import Result
from efface.models.stable_diffusion import StableDiffusionModel


def test_an_attack_found_later_enters_the_verdict(
    pocket: StableDiffusionModel, artifact: Path, benchmark: Path
) -> None:
    assert api.evaluate(artifact, benchmark, model=pocket, limit=1).verdict.attack == "not attacked"
    heading = "Attack: synonyms-on-small-pocket-weapon-limit-1"
    assert heading not in api.report(artifact).read_text()
    api.attack(artifact, "synonyms", benchmark, model=pocket, limit=1)
    page = api.report(artifact).read_text()
    assert heading in page, "with its images"
    assert page.partition(heading)[2].count("data:image/png") >= 2
    (evaluation,) = read_evaluations(artifact, Erasure.load(artifact).spec)
    assert evaluation.verdict.attack == "inconclusive"
    assert "limited to 1 images per group" in evaluation.verdict.caveats
    (other,) = read_evaluations(artifact, replace(Erasure.load(artifact).spec, seed=9))
    assert other.verdict.attack == "not attacked", "attacks on another erasure do not count"
    assert not other.verdict.passed


def test_a_benchmark_of_another_concept_is_refused_or_marks_every_score(
    pocket: StableDiffusionModel, artifact: Path, tmp_path: Path
) -> None:
    cats = small_benchmark(tmp_path, "pocket-animal")
    for measure in (api.evaluate, api.attack):
        with pytest.raises(EffaceError, match="measured on 'cat', and the erasure is of weapon"):
            measure(artifact, benchmark=cats, model=pocket, limit=1)
    attack_set = api.attack(artifact, benchmark=cats, model=pocket, limit=1, allow_benchmark_mismatch=True)
    result = api.evaluate(artifact, cats, model=pocket, limit=1, allow_benchmark_mismatch=True)
    assert attack_set.folder is not None
    marked = [*result.scores, *Result.load(attack_set.folder / "result.json").scores]
    mismatch = "measured on 'cat', and the erasure is of weapon"
    assert all(score.provenance.extra["benchmark_mismatch"] == mismatch for score in marked)
    assert mismatch in result.summary()
    assert f"{mismatch}: this is not a pass".lower() in api.report(artifact).read_text().lower().replace("&#39;", "'")


def test_prompts_of_another_benchmark_prove_no_resistance(
    pocket: StableDiffusionModel, artifact: Path, benchmark: Path, tmp_path: Path
) -> None:
    data = yaml.safe_load(benchmark.read_text())
    data["splits"]["test"]["groups"]["name"]["phrases"] = [{"phrase": "a tree", "expected": {"object": "tree"}}]
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump({**data, "name": "own"}))
    found = api.attack(artifact, "synonyms", own, model=pocket, limit=1)
    replayed = api.attack(artifact, replay=found.folder, benchmark=benchmark, model=pocket)
    assert replayed.benchmark["name"] == "own"
    assert replayed.folder is not None
    post = Result.load(replayed.folder / "result.json").score("asr_post", replayed.folder.name)
    assert post is not None
    assert "with prompts of another benchmark (own)" in post.provenance.extra["deviations"]
    result = api.evaluate(artifact, own, model=pocket, limit=1)
    assert result.metadata["instead_of_benchmark"] == "pocket-weapon"
    assert "not on efface&#39;s pocket-weapon" in api.report(artifact).read_text()


def test_a_base_model_with_black_images_resists_no_attack(
    pocket: StableDiffusionModel, artifact: Path, benchmark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pocket, "decode", lambda z: torch.zeros(len(z), 3, 64, 64))
    monkeypatch.setenv("EFFACE_CACHE", str(artifact / "cache"))
    for measure in (api.attack, api.evaluate):
        with pytest.raises(EffaceError, match="images of the model without an erasure are black"):
            measure(artifact, benchmark=benchmark, model=pocket, limit=1)
    assert not (artifact / "evidence").exists()
