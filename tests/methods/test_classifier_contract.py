"""The contract of every method for image classifiers, on a tiny model and folders of images."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.interrupt import InterruptAfter
from helpers.tiny import tiny_model
from helpers.tiny_classifier import COLOURS, tiny_classifier, write_images

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.registry import METHODS
from efface.execution import run_method
from efface.models.classifier import ClassifierModel
from efface.ops.classifiers.forget_sets import training_images
from efface.ops.classifiers.predictions import predict
from efface.ops.editing.apply import applied
from efface.ops.training.run import Run

NAMES = tuple(name for name in METHODS.names() if METHODS.card(name).families == ("image_classifier",))
SMALL = {"steps": 12, "batch_size": 8, "learning_rate": 0.05, "shift": 1}
SGD = {"solver": "sgd", "target_modules": "all"}
RED = (Concept("red"),)
all_methods = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "train", 12)


def run(
    name: str, out: Path, images: Path | str, model: Any = None, concepts: tuple[Concept, ...] = RED,
    settings: Mapping[str, Any] | None = None, **options: Any,
) -> Erasure:  # fmt: skip
    function: Any = METHODS.get(name)
    fields = {field.name for field in dataclasses.fields(sys.modules[function.__module__].Config)}
    overrides = {key: value for key, value in {**SMALL, "images": str(images)}.items() if key in fields}
    overrides |= settings or {}
    defaults = {"seed": 3, "resume": False, "progress": None}
    return run_method(
        model or tiny_classifier(), concepts, out, function, preset="paper", overrides=overrides, overwrite=False,
        **(defaults | options),
    )  # fmt: skip


def probabilities(model: ClassifierModel, images: Path) -> torch.Tensor:
    return predict(model, training_images(model, str(images))).probabilities


@all_methods
def test_a_saved_erasure_changes_predictions_and_can_be_removed_exactly(
    name: str, tmp_path: Path, images: Path
) -> None:
    model = tiny_classifier()
    state = {key: tensor.clone() for key, tensor in model.module.state_dict().items()}
    before = probabilities(model, images)
    run(name, tmp_path / "e", images, model)
    with applied(model, Erasure.load(tmp_path / "e")):
        after = probabilities(model, images)
    assert after.isfinite().all()
    assert not torch.equal(before, after)
    assert torch.equal(probabilities(model, images), before)
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.module.state_dict().items())


@pytest.mark.parametrize("settings", [{}, {"target": "others"}, {"solver": "lbfgs", "target_modules": "all"}, SGD])
def test_famr_forgets_a_class_and_keeps_the_others(tmp_path: Path, images: Path, settings: dict[str, Any]) -> None:
    model = tiny_classifier()
    erasure = run("famr", tmp_path / "e", images, model, settings={"rho": 1e-3, "steps": 60, **settings})
    labels = torch.tensor(training_images(model, str(images)).labels)
    with applied(model, erasure):
        after = probabilities(model, images)
    assert float(after[labels == 0, 0].mean()) < 0.4, "before, the class's probability is near 1"
    assert float((after.argmax(-1) == labels)[labels != 0].double().mean()) > 0.9
    bounds = (erasure.effect or {})["notes"]["bounds"]
    assert bounds["parameters"]["measured"] <= bounds["parameters"]["bound"]


@pytest.mark.parametrize(("name", "settings"), [("retrain", {}), ("fine_tuning", {}), ("salun", {}), ("famr", SGD)])
def test_an_interrupted_run_resumes_to_the_same_bytes(
    name: str, settings: dict[str, Any], tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(name, tmp_path / "first", images, settings=settings)
    monkeypatch.setattr("efface.execution.erasure.Run", partial(Run, checkpoint_every=2))
    with pytest.raises(KeyboardInterrupt):
        run(name, tmp_path / "e", images, settings=settings, progress=InterruptAfter(4))
    resumed = run(name, tmp_path / "e", images, settings=settings, resume=True)
    assert resumed.tensors_path.read_bytes() == first.tensors_path.read_bytes()


def test_images_of_a_folder_are_forgotten_in_place_of_a_class(tmp_path: Path, images: Path) -> None:
    model, settings = tiny_classifier(), {"forget_images": str(images / "blue"), "images": ""}
    erasure = run("famr", tmp_path / "e", images, model, (Concept("customer 3", kind="samples"),), settings)
    with applied(model, erasure):
        after = probabilities(model, images)
    labels = torch.tensor(training_images(model, str(images)).labels)
    assert float(after[labels == 2, 2].mean()) < 0.6


def test_a_group_of_classes_is_named_by_synonyms(tmp_path: Path, images: Path) -> None:
    concept = Concept("warm", kind="domain", synonyms=("red", "grey"))
    erasure = run("famr", tmp_path / "e", images, concepts=(concept,), settings={"target": "others"})
    assert (erasure.effect or {})["concept"]["before"]["images"] == 24


@pytest.mark.parametrize(
    ("name", "settings", "concept", "message"),
    [
        ("famr", {}, Concept("rde"), "unknown class of colours .*'rde'.*red"),
        ("famr", {"images": ""}, Concept("red"), "colours brings no images.*--set images=FOLDER"),
        ("famr", {"images": "nowhere"}, Concept("red"), "there is no folder nowhere"),
        ("famr", {"forget_images": "nowhere"}, Concept("red"), "nowhere holds no images to forget"),
        ("famr", {}, Concept("sketch", kind="style"), "do not state which show the style 'sketch'.*forget_images"),
        ("famr", {"solver": "magic"}, Concept("red"), "solver 'magic' is unknown: set solver to newton, lbfgs, sgd"),
        ("famr", {"target_modules": "all"}, Concept("red"), "newton solves the last layer alone"),
        ("famr", {"solver": "sgd", "target_modules": "head"}, Concept("red"), "unknown role of a classifier 'head'"),
        ("famr", {"rho": 0.0}, Concept("red"), "rho 0 anchors nothing"),
        ("famr", {"target": "nothing"}, Concept("red"), "target 'nothing' is unknown"),
        ("famr", {"target": "others"}, Concept("c", synonyms=tuple(COLOURS)), "every class is to be forgotten"),
        ("retrain", {}, Concept("c", synonyms=tuple(COLOURS)), "needs images to keep"),
    ],
)
def test_bad_input_gets_one_line(
    name: str, settings: dict[str, Any], concept: Concept, message: str, tmp_path: Path, images: Path
) -> None:
    with pytest.raises(EffaceError, match=message) as error:
        run(name, tmp_path / "e", images, concepts=(concept,), settings=settings)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "e").exists()


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "train", 2)
    (folder / "red" / "9.png").write_bytes(b"no image")
    with pytest.raises(EffaceError, match=r"9\.png is no image that can be read"):
        run("famr", tmp_path / "e", folder)


def test_a_folder_that_is_no_class_is_refused(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "train", 2)
    (folder / "purple").mkdir()
    with pytest.raises(EffaceError, match="unknown class of colours 'purple'"):
        run("famr", tmp_path / "e", folder)


def test_the_wrong_kind_of_model_is_refused_in_one_line(tmp_path: Path, images: Path) -> None:
    with pytest.raises(EffaceError, match=r"famr does not support sd1 models .* it supports image classifiers"):
        run("famr", tmp_path / "a", images, tiny_model())
    with pytest.raises(EffaceError, match=r"esd does not support image_classifier models such as colours: it supports"):
        run_method(
            tiny_classifier(), RED, tmp_path / "b", METHODS.get("esd"), preset=None, overrides={}, seed=0,
            resume=False, overwrite=False, progress=None,
        )  # fmt: skip
