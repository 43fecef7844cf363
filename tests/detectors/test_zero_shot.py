"""Zero-shot classification with a tiny CLIP model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.classifiers import random_images, saved_clip

from efface.detectors.abstention import CANNOT_TELL
from efface.detectors.hf_clip import HFClipScore
from efface.detectors.zero_shot import ZeroShotClassifier, class_frequencies


def test_labels_are_the_classes_with_the_nearest_prompts(tmp_path: Path) -> None:
    saved_clip(tmp_path)
    scorer, images = HFClipScore(tmp_path), random_images(12, 8)
    classes = {"object": ("cat", "dog", "hot_dog"), "style": ("mosaic", "photo")}
    detector = ZeroShotClassifier(scorer, classes)
    judgement = detector(images)
    texts = scorer.text_features(["a photo of cat", "a photo of dog", "a photo of hot dog"])
    cosines = scorer.image_features(images) @ texts.T
    assert judgement.object == [classes["object"][i] for i in cosines.argmax(-1).tolist()]
    assert set(judgement.style) <= set(classes["style"])
    assert detector.thresholds == {"object": 0.0, "style": 0.0}
    assert detector.id.startswith(f"zero-shot-{tmp_path.name}@{scorer.detector.version}+")
    assert (
        ZeroShotClassifier(scorer, {"object": ("cat", "gun")}).id
        != ZeroShotClassifier(scorer, {"object": ("cat", "dog")}).id
    ), "the id depends on the classes"
    assert set(ZeroShotClassifier(scorer, classes, 0.999)(images).object) == {CANNOT_TELL}
    torch.testing.assert_close(judgement.features.norm(dim=-1), torch.ones(12))
    with pytest.raises(AttributeError):
        _ = judgement.background


def test_class_frequencies_are_shares_of_the_best_class() -> None:
    scores = {"a photo of cat": [1.0, 0.0, 0.5], "a photo of dog": [0.0, 2.0, 0.4]}
    frequencies = class_frequencies(
        lambda _, prompts: torch.tensor(scores[prompts[0]]), torch.rand(3, 3, 8, 8), ("cat", "dog")
    )
    torch.testing.assert_close(frequencies, torch.tensor([2 / 3, 1 / 3], dtype=torch.double))
