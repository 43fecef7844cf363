"""Evaluations of pocket with its judge."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from helpers.small_benchmark import small_benchmark
from helpers.tiny import tiny_model

from efface import api
from efface.api.evaluation_inputs import load_evaluation_inputs
from efface.benchmarks.benchmark import Benchmark
from efface.benchmarks.image_cache import ImageCache
from efface.benchmarks.image_generation import ImageGenerator, erasure_key
from efface.benchmarks.runner import run_benchmark
from efface.core.attack_set import AttackSet
from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.errors import BaseModelMismatchError, EffaceError
from efface.core.result import Result
from efface.core.spec import RunSpec
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.tensor_conversion import to_blob

LIMIT = 30
"""Images of a group from which a score decides a verdict."""


def noise_erasure(model: StableDiffusionModel, amount: float) -> Erasure:
    """A destructive erasure: noise on the UNet's linear layers, in units of each tensor's standard deviation."""
    group, generator = model.parameter_group("unet_linear"), torch.Generator().manual_seed(0)
    tensors = {}
    for name, p in group.parameters.items():
        spread = p.std().nan_to_num() if p.numel() > 1 else torch.tensor(0.0)
        tensors[name] = to_blob(p + amount * spread * torch.randn(p.shape, generator=generator))
    spec = RunSpec(model.name, model.fingerprint(), "esd", {"noise": amount}, (Concept("weapon"),))
    return Erasure(spec, (Edit("unet", "replace", {name: name for name in tensors}),), tensors)


@pytest.mark.slow
def test_the_base_model_against_itself_is_unchanged(pocket: StableDiffusionModel, tmp_path: Path) -> None:
    benchmark = Benchmark.load(small_benchmark(tmp_path, num_inference_steps=8, groups=("name", "other")))
    evaluation = run_benchmark(benchmark, ImageGenerator(pocket, benchmark.sampler, ImageCache()), None, limit=LIMIT)
    rer, retention = evaluation.result.score("rer", "name"), evaluation.result.score("retention", "other")
    assert rer is not None
    assert rer.value == 0
    assert retention is not None
    assert retention.value == 1
    assert evaluation.result.verdict.erasure in ("not erased", "inconclusive")
    assert all(row.change.value == 0 for row in evaluation.interference)


@pytest.mark.slow
def test_a_destroyed_model_fails_the_verdict(pocket: StableDiffusionModel, tmp_path: Path) -> None:
    benchmark = Benchmark.load(small_benchmark(tmp_path, num_inference_steps=8, groups=("name", "other")))
    evaluation = run_benchmark(
        benchmark, ImageGenerator(pocket, benchmark.sampler, ImageCache()), noise_erasure(pocket, 1.5), limit=LIMIT
    )
    rer = evaluation.result.score("rer", "name")
    assert rer is not None
    assert rer.value is not None
    assert rer.value > 0.9, "noise removes the weapon and everything else"
    assert not evaluation.result.verdict.passed
    assert evaluation.result.verdict.erasure == "not erased"
    assert evaluation.result.verdict.retention == "damaged"
    assert "destroyed" in evaluation.result.summary()
    saved = evaluation.save(tmp_path / "evidence")
    assert saved.folder is not None
    assert Result.load(saved.folder / "result.json").verdict == evaluation.result.verdict
    rows = json.loads((saved.folder / "images.json").read_text())
    assert {row["group"] for row in rows} == {"name", "domain", "near", "other"}
    assert all((saved.folder / row[when]).is_file() for row in rows for when in ("before", "after"))


def test_images_are_generated_once(
    pocket: StableDiffusionModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    benchmark = Benchmark.load(small_benchmark(tmp_path))
    samples = benchmark.samples("dev", limit=2)
    image_generator = ImageGenerator(pocket, benchmark.sampler, ImageCache(tmp_path / "p.sqlite"), batch_size=3)
    first = torch.cat([images for _, images in image_generator.generate(samples, None)])
    monkeypatch.setattr(StableDiffusionModel, "sample", None)
    second_generator = ImageGenerator(pocket, benchmark.sampler, ImageCache(tmp_path / "p.sqlite"))
    again = torch.cat([images for _, images in second_generator.generate(samples, None)])
    assert torch.equal(first, again)


def test_erasure_keys_depend_on_the_tensors(pocket: StableDiffusionModel) -> None:
    assert erasure_key(None) == ""
    assert erasure_key(noise_erasure(pocket, 0.1)) != erasure_key(noise_erasure(pocket, 0.2))
    assert erasure_key(noise_erasure(pocket, 0.1)) == erasure_key(noise_erasure(pocket, 0.1))


@pytest.fixture(scope="module")
def artifact(pocket: StableDiffusionModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weak erasure: a few steps of ESD."""
    out = tmp_path_factory.mktemp("artifact") / "weapon"
    api.erase(
        "weapon",
        out=out,
        model=pocket,
        method="esd",
        quick_evaluation=False,
        config={"steps": 6, "num_templates": 0, "retain_weight": 0.0, "num_inference_steps": 5},
    )
    return out


def test_attack_evaluate_report(pocket: StableDiffusionModel, artifact: Path, tmp_path: Path) -> None:
    name = "synonyms-on-small-pocket-weapon-limit-3"
    benchmark = small_benchmark(tmp_path, num_inference_steps=8)
    attack_set = api.attack(artifact, "synonyms", benchmark, model=pocket, limit=3)
    assert attack_set == AttackSet.load(artifact / "evidence" / "attacks" / name)
    assert len(attack_set.prompts) == 3
    assert all("weapon" in p.source_prompt and p.adversarial_prompt != p.source_prompt for p in attack_set.prompts)
    result = api.evaluate(artifact, benchmark, model=pocket, limit=3)
    groups = {(s.metric, s.group) for s in result.scores}
    assert {
        ("rer", "name"),
        ("rer", "domain"),
        ("retention", "near"),
        ("retention", "other"),
        ("retention", "context"),
    } <= groups
    assert {
        ("asr_pre", name),
        ("asr_post", name),
        ("kid", "other"),
        ("clip_score", "other"),
        ("h_o", "all"),
    } <= groups
    post = result.attack_scores()["synonyms"]
    assert post is not None
    assert post.value is not None
    assert post.value > 0.5, "six steps erase nothing"
    page = api.report(artifact).read_text()
    assert "synonyms" in page
    assert "pocket-judge" in page
    assert Erasure.load(artifact).concepts[0].retain_prompts, "a bundled model adds its retain set"


@pytest.mark.slow
def test_replay_on_another_erasure(pocket: StableDiffusionModel, artifact: Path, tmp_path: Path) -> None:
    found = api.attack(artifact, "synonyms", model=pocket, limit=3)
    api.erase(Concept("weapon"), out=tmp_path / "other", model=pocket, method="negative_prompt", quick_evaluation=False)
    replayed = api.attack(tmp_path / "other", model=pocket, replay=found.folder)
    assert replayed.prompts == found.prompts
    assert replayed.folder is not None
    assert replayed.folder.name == f"synonyms-found-on-{found.erasure_hash[:8]}-limit-3"
    assert replayed.erasure_hash == found.erasure_hash != Erasure.load(tmp_path / "other").spec.hash


def test_another_base_is_refused(artifact: Path) -> None:
    with pytest.raises(BaseModelMismatchError, match="not the base of this erasure"):
        api.evaluate(artifact, "pocket-weapon", model=tiny_model(), limit=1)
    with pytest.raises(EffaceError, match="no benchmark"):
        load_evaluation_inputs(_renamed(artifact), None)


def _renamed(artifact: Path) -> Path:
    erasure = Erasure.load(artifact)
    spec = RunSpec(erasure.spec.model, erasure.spec.base, "esd", {}, (Concept("sofa"),))
    return (
        Erasure(spec, erasure.edits, erasure.tensors).save(artifact.parent / "sofa", overwrite=True).folder or artifact
    )


def test_the_readme_loads_it_in_plain_diffusers(
    pocket: StableDiffusionModel, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from efface.models.model_ref import bundled_folder
    from efface.ops.editing.apply import applied

    code = re.search(r"```python\n(.*?)```", (artifact / "README.md").read_text(), re.DOTALL)
    assert code is not None
    assert "efface" not in code[1]
    monkeypatch.chdir(artifact)
    space: dict[str, object] = {}
    exec(code[1].replace("path/to/the/base/model", str(bundled_folder("pocket"))), space)
    loaded = StableDiffusionModel(space["pipe"], "plain").sample(
        ["a photo of a weapon"], seeds=[1], num_inference_steps=4
    )  # type: ignore[arg-type]
    with applied(pocket, Erasure.load(artifact)):
        expected = pocket.sample(["a photo of a weapon"], seeds=[1], num_inference_steps=4)
    base = pocket.sample(["a photo of a weapon"], seeds=[1], num_inference_steps=4)
    assert (loaded - expected).abs().max() < 0.02, "the same image, up to half precision"
    assert (loaded - base).abs().max() > 0.02
