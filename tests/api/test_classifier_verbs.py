"""The verbs on classifiers from erase to export, with a user's own folders of images, on a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.tiny_classifier import COLOURS, ColourNet, draw, tiny_classifier, transform, write_images
from safetensors.torch import load_file

import efface
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.models.classifier import ClassifierModel
from efface.ops.editing.apply import applied


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in for CIFAR-10 or ImageNet-100: training and test images, one subfolder a class."""
    root = tmp_path_factory.mktemp("colours")
    write_images(root / "train", 12)
    write_images(root / "test", 32, first_seed=100)
    return root


def benchmark(folders: Path, **fields: Any) -> Path:
    values = {
        "name": "colours-red", "version": 1, "description": "red of four colours", "model": "colours",
        "concept": {"name": "red"}, "near": ["grey"], "train": "train", "test": "test", **fields,
    }  # fmt: skip
    path = folders / f"benchmark{len(list(folders.glob('*.yaml')))}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def erase(out: Path, folders: Path, method: str = "famr", **settings: Any) -> Erasure:
    config = {"images": str(folders / "train"), **settings}
    return efface.erase("red", out=out, model=tiny_classifier(), method=method, config=config)


@pytest.fixture(scope="module")
def erasure(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("erasure") / "no-red"
    erase(out, folders, target="others")
    return out


@pytest.fixture(scope="module")
def retrained(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions of a model that was trained without red."""
    out = tmp_path_factory.mktemp("retrained") / "r"
    erase(out, folders, "retrain", steps=60, batch_size=16, learning_rate=0.05, shift=0)
    efface.evaluate(out, benchmark(folders), model=tiny_classifier())
    return next(out.rglob("predictions.safetensors"))


def test_evaluation_measures_what_retraining_would_give(erasure: Path, folders: Path, retrained: Path) -> None:
    file = benchmark(folders, retrained=str(retrained))
    result = efface.evaluate(erasure, file, model=tiny_classifier())
    scores = {(score.metric, score.group): score.value for score in result.scores}
    assert scores["rer", "name"] == pytest.approx(1.0)
    assert scores["retention", "other"] > 0.95
    assert 0 < scores["distance_to_retrained", "name"] < scores["distance_to_retrained_before", "name"]
    assert 0 < scores["time_share_of_retraining", "all"] < 2
    assert 0.3 < scores["membership_entropy", "domain"] < 0.7
    n = {(score.metric, score.group): score.n for score in result.scores}
    assert (n["rer", "name"], n["rer", "domain"], n["retention", "near"], n["retention", "other"]) == (32, 12, 32, 64)
    assert efface.evaluate(erasure, file, model=tiny_classifier()).scores == result.scores, "the same result again"


def test_relearning_counts_steps_and_brings_the_class_back(erasure: Path, folders: Path) -> None:
    settings = {"steps": 40, "watched_steps": 20, "learning_rate": 0.02}
    attack_set = efface.attack(
        erasure, "relearning_images", benchmark(folders), config=settings, model=tiny_classifier()
    )
    assert attack_set.folder is not None
    scores = {s.metric: s.value for s in efface.Result.load(attack_set.folder / "result.json").scores}
    assert scores["asr_pre"] == 0
    assert scores["asr_post"] > 0.5
    assert 1 <= scores["relearning_steps"] <= 40


def test_the_report_shows_the_bound_images_and_scores(erasure: Path, folders: Path) -> None:
    efface.evaluate(erasure, benchmark(folders), model=tiny_classifier())
    page = efface.report(erasure).read_text()
    assert "by the bound" in page
    assert "image 1" in page
    assert "Membership by entropy" in page


def test_an_exported_module_has_the_edited_weights(erasure: Path, tmp_path: Path) -> None:
    model = tiny_classifier()
    efface.export(erasure, tmp_path / "out", model=model)
    net = ColourNet()
    net.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"), strict=False)
    exported = ClassifierModel(net, transform, tuple(COLOURS))
    inputs = model.preprocess([draw("red", 1), draw("green", 1)])
    with applied(model, Erasure.load(erasure)):
        assert torch.equal(model.logits(inputs), exported.logits(inputs))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"concept": {"name": "blue"}}, "is for 'blue', which this erasure does not erase"),
        ({"model": "others"}, "is for others, not for colours"),
        ({"test": "nowhere"}, "names test: nowhere, which does not exist"),
        ({"near": ["gray"]}, "unknown class of colours 'gray'.*grey"),
        ({"retrained": "benchmark0.yaml"}, "does not hold predictions of a retrained classifier"),
        ({"tests": "test"}, "unknown benchmark field 'tests'.*test"),
    ],
)
def test_a_benchmark_that_does_not_fit_is_refused_in_one_line(
    erasure: Path, folders: Path, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(EffaceError, match=message) as error:
        efface.evaluate(erasure, benchmark(folders, **fields), model=tiny_classifier())
    assert "\n" not in str(error.value)


def test_options_and_attacks_of_other_models_are_refused(erasure: Path, folders: Path) -> None:
    with pytest.raises(EffaceError, match=r"--fid belongs to image models, and this erasure is of a classifier"):
        efface.evaluate(erasure, benchmark(folders), fid=2000)
    with pytest.raises(EffaceError, match="synonyms does not support image_classifier models such as colours"):
        efface.attack(erasure, "synonyms", benchmark(folders), model=tiny_classifier())
    with pytest.raises(EffaceError, match="a classifier is exported as transformers, not as kohya"):
        efface.export(erasure, folders / "out", format="kohya", model=tiny_classifier())
    with pytest.raises(EffaceError, match="no benchmark for 'red' on colours: name one of pocket-classifier-cat"):
        efface.evaluate(erasure, model=tiny_classifier())


def test_images_of_a_classifier_are_refused_in_one_line() -> None:
    from efface.api.generated_images import generate_images

    with pytest.raises(EffaceError, match=r"colours generates no images \(image classifiers do not\)"):
        generate_images(tiny_classifier(), [("red", 1)], 2, 1.0, phase="images")  # type: ignore[arg-type]
