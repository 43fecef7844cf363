"""Evaluations of pocket, judged by its judge."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from helpers.small_benchmark import quick
from helpers.tiny import tiny_model

from efface import api
from efface.api import validation
from efface.benchmarks.benchmark import Benchmark
from efface.benchmarks.image_cache import PictureCache
from efface.benchmarks.image_generation import Painter, erasure_key
from efface.benchmarks.runner import run_benchmark
from efface.core.attack_set import AttackSet
from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.errors import BaseMismatch, EffaceError
from efface.core.result import Result
from efface.core.spec import RunSpec
from efface.models.stable_diffusion import UNetModel
from efface.ops.tensor_conversion import to_blob

LIMIT = 12


def noised(model: UNetModel, amount: float) -> Erasure:
    """The UNet's attention to the text with so much noise, in units of each tensor's own spread: an erasure that destroys."""
    sites, generator = model.sites("unet_linear"), torch.Generator().manual_seed(0)
    tensors = {}
    for name, p in sites.parameters.items():
        spread = p.std().nan_to_num() if p.numel() > 1 else torch.tensor(0.0)
        tensors[name] = to_blob(p + amount * spread * torch.randn(p.shape, generator=generator))
    spec = RunSpec(model.name, model.fingerprint(), "esd", {"noise": amount}, (Concept("weapon"),))
    return Erasure(spec, (Edit("unet", "replace", {name: name for name in tensors}),), tensors)


def test_nothing_changes_without_an_erasure(pocket: UNetModel, tmp_path: Path) -> None:
    benchmark = Benchmark.load(quick(tmp_path, steps=8))
    done = run_benchmark(benchmark, Painter(pocket, benchmark.sampler, PictureCache()), None, limit=LIMIT)
    rer, kept = done.result.score("rer", "name"), done.result.score("kept", "other")
    assert rer is not None
    assert rer.value == 0
    assert kept is not None
    assert kept.value == 1
    assert done.result.verdict.erasure in ("not erased", "inconclusive")
    assert all(row.change.value == 0 for row in done.interference)


def test_a_destroyed_model_fails_the_verdict(pocket: UNetModel, tmp_path: Path) -> None:
    benchmark = Benchmark.load(quick(tmp_path, steps=8))
    done = run_benchmark(benchmark, Painter(pocket, benchmark.sampler, PictureCache()), noised(pocket, 1.5), limit=30)
    rer = done.result.score("rer", "name")
    assert rer is not None
    assert rer.value is not None
    assert rer.value > 0.9, "the weapon is gone, as is all else"
    assert not done.result.verdict.passed
    assert done.result.verdict.erasure == "not erased"
    assert done.result.verdict.retention == "damaged"
    assert "destroyed" in done.result.one_line()
    saved = done.save(tmp_path / "evidence")
    assert saved.folder is not None
    assert Result.load(saved.folder / "result.json").verdict == done.result.verdict
    rows = json.loads((saved.folder / "pictures.json").read_text())
    assert {row["group"] for row in rows} == {"name", "domain", "near", "other"}
    assert all((saved.folder / row[when]).is_file() for row in rows for when in ("before", "after"))


def test_pictures_are_drawn_once(pocket: UNetModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    benchmark = Benchmark.load("pocket-weapon")
    rows = benchmark.rows("dev", limit=2)
    painter = Painter(pocket, benchmark.sampler, PictureCache(tmp_path / "p.sqlite"), batch=3)
    first = torch.cat([images for _, images in painter.pictures(rows, None)])
    monkeypatch.setattr(UNetModel, "sample", None)
    again = torch.cat(
        [
            images
            for _, images in Painter(pocket, benchmark.sampler, PictureCache(tmp_path / "p.sqlite")).pictures(
                rows, None
            )
        ]
    )
    assert torch.equal(first, again)


def test_keys_tell_erasures_apart(pocket: UNetModel) -> None:
    assert erasure_key(None) == ""
    assert erasure_key(noised(pocket, 0.1)) != erasure_key(noised(pocket, 0.2))
    assert erasure_key(noised(pocket, 0.1)) == erasure_key(noised(pocket, 0.1))


@pytest.fixture(scope="module")
def artifact(pocket: UNetModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weak erasure: a few steps of ESD."""
    out = tmp_path_factory.mktemp("artifact") / "weapon"
    api.erase("weapon", out=out, model=pocket, method="esd", config={"steps": 6, "templates": 0, "runs": 1})
    return out


def test_attack_evaluate_report(pocket: UNetModel, artifact: Path) -> None:
    made = api.attack(artifact, "synonyms", model=pocket, limit=LIMIT)
    assert made == AttackSet.load(artifact / "evidence" / "attacks" / "synonyms")
    assert len(made.prompts) == LIMIT
    assert all("weapon" in p.prompt and p.text != p.prompt for p in made.prompts)
    result = api.evaluate(artifact, "pocket-weapon", model=pocket, limit=LIMIT)
    groups = {(s.metric, s.group) for s in result.scores}
    assert {("rer", "name"), ("rer", "domain"), ("kept", "near"), ("kept", "other"), ("kept", "context")} <= groups
    assert {
        ("asr_pre", "synonyms"),
        ("asr_post", "synonyms"),
        ("kid", "other"),
        ("clip_score", "other"),
        ("h_o", "all"),
    } <= groups
    post = result.score("asr_post", "synonyms")
    assert post is not None
    assert post.value is not None
    assert post.value > 0.5, "six steps erase nothing"
    page = api.report(artifact).read_text()
    assert "synonyms" in page
    assert "pocket-judge" in page
    assert Erasure.load(artifact).concepts[0].retain, "an embedded model's own retain set"


def test_replay_on_another_erasure(pocket: UNetModel, artifact: Path, tmp_path: Path) -> None:
    found = api.attack(artifact, "synonyms", model=pocket, limit=4)
    api.erase(Concept("weapon"), out=tmp_path / "other", model=pocket, method="negative_prompt")
    replayed = api.attack(tmp_path / "other", model=pocket, replay=found.folder)
    assert replayed.prompts == found.prompts
    assert replayed.against == found.against != Erasure.load(tmp_path / "other").spec.hash


def test_another_base_is_refused(artifact: Path) -> None:
    with pytest.raises(BaseMismatch, match="not the base of this erasure"):
        api.evaluate(artifact, "pocket-weapon", model=tiny_model(), limit=1)
    with pytest.raises(EffaceError, match="no benchmark is for"):
        validation.artifact_and_benchmark(_renamed(artifact), None)


def _renamed(artifact: Path) -> Path:
    erasure = Erasure.load(artifact)
    spec = RunSpec(erasure.spec.model, erasure.spec.base, "esd", {}, (Concept("sofa"),))
    return (
        Erasure(spec, erasure.edits, erasure.tensors).save(artifact.parent / "sofa", overwrite=True).folder or artifact
    )


def test_the_readme_loads_it_in_plain_diffusers(
    pocket: UNetModel, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from efface.models.loading import embedded_folder
    from efface.ops.editing.apply import applied

    code = re.search(r"```python\n(.*?)```", (artifact / "README.md").read_text(), re.DOTALL)
    assert code is not None
    assert "efface" not in code[1]
    monkeypatch.chdir(artifact)
    space: dict[str, object] = {}
    exec(code[1].replace("path/to/the/base/model", str(embedded_folder("pocket"))), space)
    drawn = UNetModel(space["pipe"], "plain").sample(["a photo of a weapon"], seeds=[1], steps=4)  # type: ignore[arg-type]
    with applied(pocket, Erasure.load(artifact)):
        wanted = pocket.sample(["a photo of a weapon"], seeds=[1], steps=4)
    base = pocket.sample(["a photo of a weapon"], seeds=[1], steps=4)
    assert (drawn - wanted).abs().max() < 0.02, "the same picture, up to half precision"
    assert (drawn - base).abs().max() > 0.02
