"""HUB: translations and the phrases nearest to the concept, on images that a fake model makes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.cli import call, check_refused
from torch import Tensor

from efface.benchmarks.benchmark import Benchmark
from efface.benchmarks.hub import Hub, read_translations
from efface.core.errors import EffaceError
from efface.core.score import DetectorId
from efface.ops.training.progress import Silent

WEAPON = Benchmark.load("pocket-weapon")


class Generator:
    """Draws French weapons and all other objects; the erasure takes the weapons and the hammers."""

    def __init__(self) -> None:
        self.labels: list[str] = []

    def generate(self, samples: list[Any], erasure: Any) -> Iterator[tuple[list[Any], Tensor]]:
        self.labels = []
        for sample in samples:
            thing = sample.expected.get("object", ("knife" if "une arme" in sample.prompt else "cat",))[0]
            self.labels.append("cat" if erasure and thing in ("knife", "hammer") else thing)
        yield samples, torch.rand(len(samples), 3, 4, 4)


def measurement(translations: Any) -> Hub:
    generator = Generator()

    def detector(images: Tensor) -> SimpleNamespace:
        return SimpleNamespace(object=generator.labels, background=["x"] * len(images), style=["x"] * len(images))

    detector.id, detector.thresholds = "fake@1", dict.fromkeys(("object", "background", "style"), 0.5)  # type: ignore[attr-defined]

    def text_features(prompts: list[str]) -> Tensor:
        nearness = {"weapon": 0.0, "hammer": 0.1, "key": 0.2}
        angle = torch.tensor([nearness.get(text.rpartition(" of ")[2], 1.0) for text in prompts])
        return torch.stack([angle.cos(), angle.sin()], 1)

    embedder = SimpleNamespace(detector=DetectorId("clip", "1"), text_features=text_features)
    erasure: Any = SimpleNamespace(concepts=())
    parts: Any = (generator, erasure, detector, embedder, translations, Silent())
    return Hub(WEAPON, *parts, limit=12, nearest=2)


def test_a_language_has_a_value_where_the_unedited_model_knows_its_word() -> None:
    french, german = measurement({"french": ["une arme"], "german": ["eine waffe"]}).translated()
    assert (french.metric, french.group, french.value, french.n) == ("translation_rer", "french", 1.0, 12)
    assert (german.group, german.value, german.n) == ("german", None, 12)


def test_pinpoint_measures_the_phrases_nearest_to_the_concept() -> None:
    score = measurement({}).pinpoint()
    assert score.provenance.extra["nearest"] == ["hammer", "key"]
    assert (score.value, score.n) == (0.5, 12)


def test_translations_of_efface_and_of_a_file(tmp_path: Path) -> None:
    for name in ("weapon", "santa claus", "mosaic", "church", "van gogh"):
        assert len(read_translations(name)) == 5, name
    assert read_translations("sofa") == {}
    path = tmp_path / "t.yaml"
    path.write_text("french: [une arme]\n")
    assert read_translations("weapon", path) == {"french": ["une arme"]}
    for text in ("french: une arme", "[une arme]", "french: [1]", "french: []"):
        path.write_text(text)
        with pytest.raises(EffaceError, match="must hold languages with lists of phrases"):
            read_translations("weapon", path)
    with pytest.raises(EffaceError, match="does not fit pocket-weapon's templates"):
        measurement({"french": ["une {}"]}).translated()


def test_the_command_refuses_bad_input(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    check_refused(call(capfd, "benchmarks", "hub", tmp_path / "no"), "no")
