"""Tables of detections: what they refuse, and the pairs of two tables."""

from __future__ import annotations

import pytest
import torch
from helpers.fake_detector import CAT, FakeDetector, eval_prompt, fake_detections, scene

from efface.metrics.detections import Detections, EvalPrompt, TargetClasses
from efface.metrics.pairing import paired_detections


def test_any_of_several_expected_classes_is_correct(rng, provenance):
    expected = [EvalPrompt("an animal", i, "near", {"object": ("dog", "horse")}) for i in range(4)]
    detector = FakeDetector()
    table = Detections(detector)
    detector.next_labels = [f"{animal}/snow/photo" for animal in ("dog", "horse", "owl", "dog")]
    table.update(torch.rand(4, 3, 2, 2), expected)
    assert [row.matches_expected(["object"]) for row in table.rows("near")] == [True, True, False, True]


def test_pairs_refuse_different_images_detectors_or_expectations():
    one = fake_detections(scene(CAT, 3))
    with pytest.raises(ValueError, match="have a partner"):
        paired_detections(one, fake_detections(scene(CAT, 2)), ["name"])
    with pytest.raises(ValueError, match="have a partner"):
        paired_detections(fake_detections(scene(CAT, 2)), one, ["name"])
    for other in (FakeDetector(version="2"), FakeDetector(object=0.5)):
        with pytest.raises(ValueError, match="different"):
            paired_detections(one, fake_detections(scene(CAT, 3), other), ["name"])
    detector = FakeDetector()
    table = Detections(detector)
    detector.next_labels = [CAT] * 3
    table.update(torch.rand(3, 3, 2, 2), [EvalPrompt(CAT, i, "name", {"object": "dog"}) for i in range(3)])
    with pytest.raises(ValueError, match="expects"):
        paired_detections(one, table, ["name"])


def test_pairs_match_prompt_and_seed_not_order():
    detector = FakeDetector()
    table = Detections(detector)
    for i in (2, 0, 1):
        detector.next_labels = [f"cat{i}/snow/photo"]
        table.update(torch.rand(1, 3, 2, 2), [eval_prompt(CAT, "name", i)])
    assert [b.labels["object"] for _, b in paired_detections(fake_detections(scene(CAT, 3)), table, ["name"])] == [
        "cat0",
        "cat1",
        "cat2",
    ]


def test_a_refused_batch_leaves_the_table_unchanged():
    table = fake_detections(scene(CAT, 2))
    for expected, message in [
        ([eval_prompt(CAT, "name", 1)], "same group, prompt and seed"),
        ([eval_prompt(CAT, "new", 1)] * 2, "same group, prompt and seed"),
        ([EvalPrompt("x", 5, "name", {"colour": "red"})], "no head"),
        ([], "1 images for 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            table.update(torch.rand(len(expected) or 1, 3, 2, 2), expected)
    assert len(table) == 2
    for wrong in ("cat", []):
        with pytest.raises(ValueError, match="collection of classes"):
            TargetClasses("object", wrong)
    with pytest.raises(ValueError, match="no head"):
        table.detector("colour")
