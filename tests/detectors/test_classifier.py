"""Classifiers in transformers' layout: tiny ones compared with the library's own forward pass."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.classifiers import LABELS, PREPROCESS, random_images, saved_classifier
from safetensors.torch import load_file, save_file

from efface.core.errors import EffaceError
from efface.detectors.abstention import CANNOT_TELL
from efface.detectors.classifier import ImageClassifier
from efface.models.classifier import label_names


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_labels_equal_the_librarys_top_class(kind: str, tmp_path: Path) -> None:
    model = saved_classifier(tmp_path, kind)
    detector, images = ImageClassifier(tmp_path), random_images(40)
    mean, std = (torch.tensor(PREPROCESS[key])[:, None, None] for key in ("image_mean", "image_std"))
    with torch.no_grad():
        logits = model(pixel_values=(images - mean) / std).logits
    judgement = detector(images)
    assert judgement.object == [label_names(LABELS)[i] for i in logits.argmax(-1).tolist()]
    assert len(set(judgement.object)) > 1
    layer = model.classifier if kind == "vit" else model.classifier[-1]
    torch.testing.assert_close(judgement.features @ layer.weight.T + layer.bias, logits, atol=1e-4, rtol=1e-4)
    assert torch.equal(detector.features(images), judgement.features)
    assert detector.id == f"{tmp_path.name}@{detector.id.rpartition('@')[2]}"
    confidence = logits.softmax(-1).amax(-1)
    threshold = float(confidence.median())
    strict = ImageClassifier(tmp_path, "org/name", threshold=threshold)
    assert [label == CANNOT_TELL for label in strict(images).object] == (confidence < threshold).tolist()
    assert (strict.id.partition("@")[0], strict.thresholds) == ("org/name", {"object": threshold})


def test_labels_are_shortened_where_their_first_names_differ() -> None:
    assert label_names(LABELS) == ("church", "tench", "crane, bird", "crane, machine", "cassette player")


def test_folders_without_a_classifier_are_refused(tmp_path: Path) -> None:
    def check_refused(folder: Path, message: str) -> None:
        with pytest.raises(EffaceError, match=message) as caught:
            ImageClassifier(folder)
        assert "\n" not in str(caught.value)

    check_refused(tmp_path, r"not an image classifier: it has no config\.json")
    saved_classifier(tmp_path)
    weights = tmp_path / "model.safetensors"
    complete = weights.read_bytes()
    weights.write_bytes(complete[:-100])
    check_refused(tmp_path, "does not load as an image classifier")
    weights.rename(tmp_path / "pytorch_model.bin")
    check_refused(tmp_path, r"no model\.safetensors")
    weights.write_bytes(complete)
    tensors = load_file(weights)
    save_file({name: tensor for name, tensor in tensors.items() if not name.startswith("classifier.")}, weights)
    check_refused(tmp_path, "it lacks 2 of its tensors, such as classifier.bias")
    weights.write_bytes(complete)
    (tmp_path / "preprocessor_config.json").write_text('{"size": {}}')
    check_refused(tmp_path, "does not say size")
    (tmp_path / "preprocessor_config.json").unlink()
    check_refused(tmp_path, r"has no preprocessor_config\.json")
    saved_classifier(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    code = {
        **config,
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.Config", "AutoModelForImageClassification": "own.Model"},
    }
    (tmp_path / "config.json").write_text(json.dumps(code))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    check_refused(tmp_path, "does not load as an image classifier")
    assert not (tmp_path / "ran").exists(), "no code of a folder is run"


def test_an_image_processor_of_another_size_than_the_network_is_refused(tmp_path: Path) -> None:
    saved_classifier(tmp_path, preprocess={**PREPROCESS, "size": {"height": 24, "width": 24}})
    with pytest.raises(EffaceError, match="does not accept the images of 24 x 24 pixels") as caught:
        ImageClassifier(tmp_path)
    assert "\n" not in str(caught.value)


def test_images_that_are_not_finite_are_not_judged(tmp_path: Path) -> None:
    saved_classifier(tmp_path)
    images = random_images(3)
    images[1, 0, 0, 0] = torch.nan
    with pytest.raises(EffaceError, match="image 2 of 3 holds NaN"):
        ImageClassifier(tmp_path)(images)
