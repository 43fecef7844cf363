"""The stage that trains pocket-classifier, in miniature."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import classifier
from efface.models.classifier import ClassifierModel
from efface.models.loading import load_model
from efface.ops.classifiers.pocket_images import PocketImages, pocket_images


def few_images(split: str) -> PocketImages:
    images = pocket_images(split)
    return images.subset([scene.seed[-1] == 0 and scene.label < 4 for scene in images.scenes])


def test_the_stage_writes_a_classifier_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "pocket_images", few_images)
    classifier.run(tmp_path, steps=3)
    folder = tmp_path / "pocket-classifier"
    model, weights = load_model(folder), (folder / "model.safetensors").read_bytes()
    assert isinstance(model, ClassifierModel)
    assert len(model.classes) == 58
    assert set(json.loads((folder / "training_card.json").read_text())["accuracy"]) == {"train", "test"}
    classifier.run(tmp_path, steps=3)
    assert (folder / "model.safetensors").read_bytes() == weights, "the checkpoint of the last step is read"
