"""The quick evaluation: which benchmark it takes, and what its summary says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.classifiers import saved_clip
from helpers.fake_detector import fake_detections
from helpers.tiny import erasure_of, tiny_model

from efface.benchmarks.benchmark import Benchmark
from efface.benchmarks.quick_evaluation import QuickEvaluation, QuickScore, quick_benchmark, quick_evaluate
from efface.benchmarks.substitutions import Substitution, find_substitutions
from efface.core.concept import Concept
from efface.core.erasure import Edit


def a_score(value: float | None) -> QuickScore:
    return {"value": value, "low": value, "high": value, "n": 20}


def an_evaluation(*substitutions: Substitution, **changed: float | None) -> QuickEvaluation:
    values = {"rer": 1.0, "retention_near": 1.0, "retention": 1.0, "context": 1.0, "abstention": 0.0, **changed}
    scores = {name: a_score(value) for name, value in values.items()}
    return QuickEvaluation("cat", "fake", scores, substitutions)


@pytest.mark.parametrize(
    ("context", "abstention", "words"),
    [
        (0.9, 0.9, "erased by its name"),
        (0.2, 0.0, "the concept's images are destroyed"),
        (None, 0.9, "the concept's images are destroyed"),
        (None, 0.1, "erased by its name"),
        (None, None, "erased by its name"),
    ],
)
def test_destroyed_images_are_not_called_erased(context: float | None, abstention: float | None, words: str) -> None:
    assert words in an_evaluation(context=context, abstention=abstention).summary()


def test_the_summary_tells_lost_neighbours_and_what_took_their_place() -> None:
    text = an_evaluation(Substitution("cat", "trumpet", 4, 5), retention_near=0.1).summary()
    assert "neighbours not retained, the rest retained" in text
    assert text.endswith("; cat now shows trumpet in 4 of 5 images")


def test_substitutions_of_the_concept_and_of_the_worst_retained_class() -> None:
    benchmark = replace(Benchmark.load("pocket-animal"), head="object", classes=("cat",))

    def rows(*reported: str) -> list[tuple[str, str, str]]:
        asked = [("name", "cat")] * 4 + [("near", "lion")] * 4 + [("near", "owl")] * 4 + [("other", "car")] * 4
        return [
            (group, f"{name}/snow/photo", f"{label}/snow/photo")
            for (group, name), label in zip(asked, reported, strict=True)
        ]

    right = (*["cat"] * 4, *["lion"] * 4, *["owl"] * 4, *["car"] * 4)
    cats_become_dogs = (*["dog"] * 3, "nothing", *["trumpet"] * 4, *["trumpet"] * 2, *["owl"] * 2, *["cannot tell"] * 4)
    found = find_substitutions(fake_detections(rows(*right)), fake_detections(rows(*cats_become_dogs)), benchmark)
    assert found == (Substitution("cat", "dog", 3, 4), Substitution("lion", "trumpet", 4, 4))
    scattered = (*["nothing"] * 4, "owl", "car", "dog", "lion", *["owl"] * 4, *["car"] * 4)
    found = find_substitutions(fake_detections(rows(*right)), fake_detections(rows(*scattered)), benchmark)
    assert [str(item) for item in found] == ["lion is lost in 3 of 4 images"]
    unchanged = find_substitutions(fake_detections(rows(*right)), fake_detections(rows(*right)), benchmark)
    assert unchanged == ()


@pytest.mark.filterwarnings("ignore:.*is longer than")
def test_a_model_other_than_pocket_needs_a_clip_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFACE_CACHE", str(tmp_path / "cache"))
    saved_clip(tmp_path / "clip")
    clip, model = str(tmp_path / "clip"), tiny_model()
    erasure = erasure_of(model, [Edit("unet", "guidance", {}, params={"rule": "negative_prompt", "prompts": ["gun"]})])
    assert quick_evaluate(model, erasure) is None
    shipped = quick_benchmark(model, (Concept("weapon"),), clip)
    assert shipped is not None
    assert (shipped.name, shipped.detector, shipped.clip) == ("sd-weapon", f"zero-shot:{clip}", clip)
    drafted = quick_benchmark(model, (Concept("gun"), Concept("dog", synonyms=("cat",))), clip)
    assert drafted is not None
    assert drafted.detector == f"zero-shot:{clip}"
    scored = {c for sample in drafted.samples(groups=("near", "other")) for c in sample.expected["object"]}
    assert scored.isdisjoint({"dog", "cat", "gun"})
