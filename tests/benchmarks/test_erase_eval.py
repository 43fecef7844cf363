"""EraseEval: the four protocols on images that a fake model makes, their combination and the command."""

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
from efface.benchmarks.erase_eval import EraseEval, implicit_prompts
from efface.benchmarks.erase_eval_readers import Readers, load_readers, words_of
from efface.benchmarks.erase_eval_scores import cmmd_score, mean_cosines
from efface.benchmarks.real_images import read_cropped_images
from efface.core.concept import find_mention
from efface.core.errors import EffaceError
from efface.core.score import DetectorId, Provenance
from efface.metrics.cmmd import SCALE, Cmmd
from efface.ops.training.progress import Silent

WEAPON = Benchmark.load("pocket-weapon")
FAKE = DetectorId("fake", "1")


class Generator:
    """Makes an image of one value for each prompt: 0.9 with the concept, 0.2 for others, as a state of the model says.

    Args:
        erased: whether the erasure removes the concept.
        destroyed: whether it ruins the other images.
    """

    def __init__(self, erased: bool, destroyed: bool = False) -> None:
        self.erased, self.destroyed = erased, destroyed

    def generate(self, samples: list[Any], erasure: Any) -> Iterator[tuple[list[Any], Tensor]]:
        for sample in samples:
            level = 0.9 if sample.group == "name" and not (erasure and self.erased) else 0.2
            if erasure and self.destroyed and sample.group == "other":
                level = 0.0
            yield [sample], torch.full((1, 3, 4, 4), level)


class Embedder:
    """Embeds images by their brightness and texts by whether they name a weapon."""

    detector = FAKE

    def image_features(self, images: Tensor) -> Tensor:
        angle = images.mean((1, 2, 3))
        return torch.stack([angle.cos(), angle.sin()], 1)

    def text_features(self, prompts: list[str]) -> Tensor:
        angle = torch.tensor([1.0 if "knife" in text else 0.2 for text in prompts])
        return torch.stack([angle.cos(), angle.sin()], 1)


def evaluation(generator: Generator, names: bool = True, **settings: Any) -> EraseEval:
    def captions(images: Tensor) -> list[str]:
        return ["a knife" if float(image.mean()) > 0.5 and names else "snow" for image in images]

    captioner = SimpleNamespace(detector=FAKE, captions=captions)
    presence = SimpleNamespace(detector=FAKE, shows=lambda images: [float(i.mean()) > 0.5 for i in images])
    readers: Any = Readers(captioner, Embedder(), presence)  # type: ignore[arg-type]
    erasure: Any = SimpleNamespace(concepts=())
    options = {"images_per_prompt": 2, "limit": 4, **settings}
    return EraseEval(WEAPON, generator, erasure, readers, Silent(), **options)  # type: ignore[arg-type]


def scores(run: EraseEval) -> dict[str, Any]:
    return {score.metric: score for score in run.run()}


def reference(samples: Any) -> Tensor:
    return Embedder().image_features(torch.full((5, 3, 4, 4), 0.25))


def test_an_untouched_model_scores_0() -> None:
    found = scores(evaluation(Generator(erased=False), reference=reference))
    assert [found[name].value for name in ("m1", "m2", "m3", "m4")] == [0, 0, 1, pytest.approx(1)]
    assert found["erase_eval"].value == 0
    assert found["m1"].n == 8


def test_an_erasure_that_keeps_the_rest_scores_high_and_one_low_value_drags_it_down() -> None:
    good = scores(evaluation(Generator(erased=True), reference=reference))
    assert good["m1"].value == pytest.approx(float(torch.tensor(0.8).cos()), abs=1e-3)
    assert good["m2"].value == pytest.approx(float(torch.tensor(0.7).cos()), abs=1e-3)
    assert good["erase_eval"].value > 0.7
    bad = scores(evaluation(Generator(erased=True, destroyed=True), reference=reference))
    assert bad["m4"].value == 0
    assert bad["erase_eval"].value == 0
    assert bad["m3"].value == good["m3"].value or bad["m3"].value < 1


def test_an_image_counts_as_the_concept_only_if_its_caption_names_it() -> None:
    found = scores(evaluation(Generator(erased=False), names=False))
    assert found["m1"].value == pytest.approx(1)
    assert found["m2"].value == 0
    assert "m4" not in found


def test_implied_prompts_that_the_unedited_model_does_not_show_are_dropped() -> None:
    class Unknown(Generator):
        def generate(self, samples: list[Any], erasure: Any) -> Iterator[tuple[list[Any], Tensor]]:
            yield samples, torch.full((len(samples), 3, 4, 4), 0.2)

    found = scores(evaluation(Unknown(erased=False)))
    assert found["m2"].value is None
    assert found["erase_eval"].value is None


@pytest.mark.parametrize("name", ["pocket-weapon", "pocket-santa", "pocket-style", "sd-church", "sd-van-gogh"])
def test_implied_prompts_do_not_name_the_concept(name: str) -> None:
    benchmark = Benchmark.load(name)
    prompts = implicit_prompts(benchmark, "test")
    assert len(prompts) >= 1
    assert not any("{}" in text or find_mention(text, benchmark.concept.words) for text in prompts)
    assert find_mention(f"a photo of {benchmark.concept.name}", words_of(benchmark))


def test_mean_cosines_by_hand() -> None:
    before = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    after = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert mean_cosines(before, after, [True, True], 2) == [0.5, 0.0]
    assert mean_cosines(before, after, [False, True], 1) == [0.0, 0.0]


def test_cmmd_by_hand() -> None:
    x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    expected = SCALE * (2 - 2 * float(torch.tensor(-2 / 200).exp()))
    assert Cmmd(x, y).value() == pytest.approx(expected)
    assert Cmmd(x, x).value() == pytest.approx(0)
    assert Cmmd(torch.cat([x, y]), y).value(torch.tensor([0, 0])) == pytest.approx(expected)
    score = cmmd_score(x, y, y, ["a"], FAKE, Provenance())
    assert (score.value, score.low) == (1.0, None)


def test_readers_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    church = Benchmark.load("sd-church")
    with pytest.raises(EffaceError, match="sd-church has no captioner: give --captioner"):
        load_readers(church, None, "detector", None)
    with pytest.raises(EffaceError, match="'blib' is no captioner"):
        load_readers(WEAPON, "blib", "detector", None)
    with pytest.raises(EffaceError, match="--yes-no endpoint needs --endpoint URL"):
        load_readers(WEAPON, None, "endpoint", None)
    with pytest.raises(EffaceError, match="unknown detector 'x'"):
        load_readers(WEAPON, None, "x", None)
    with pytest.raises(EffaceError, match="holds 0 images"):
        read_cropped_images(tmp_path, 8)
    with pytest.raises(EffaceError, match="--images 1 or more"):
        evaluation(Generator(erased=True), images_per_prompt=0).run()


def test_the_command_refuses_bad_input(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    check_refused(call(capfd, "benchmarks", "erase-eval", tmp_path / "no"), "no")
    output = call(capfd, "benchmarks", "erase-eval", tmp_path, "--endpoint", "http://x")
    check_refused(output, "--language-model NAME")
