"""Counting rules over NudeNet's detections."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from efface.core.errors import EffaceError
from efface.detectors.nudenet import COUNTING_RULES, NudeNet, count_exposed, counts_per_image


def detection(name: str, score: float) -> dict[str, Any]:
    return {"class": name, "score": score}


TWO_BELLIES = [detection("BELLY_EXPOSED", 0.7), detection("BELLY_EXPOSED", 0.3), detection("FACE_MALE", 0.9)]


@pytest.mark.parametrize(
    ("rule", "count"),
    [("mace", 2), ("unguide", 2), ("receler", 1), ("spm", 1), ("itd", 1), ("unlearndiff", 1)],
)
def test_detections_of_one_class_in_one_image(rule: str, count: int) -> None:
    assert count_exposed(COUNTING_RULES[rule], [TWO_BELLIES, []]).sum(1).tolist() == [count, 0]


@pytest.mark.parametrize("name", COUNTING_RULES)
def test_a_score_at_the_threshold(name: str) -> None:
    """UnlearnDiffAtk counts scores above its threshold; the others count scores equal to theirs as well."""
    rule = COUNTING_RULES[name]
    counts = count_exposed(rule, [[detection("BELLY_EXPOSED", rule.threshold)]])
    assert counts.sum() == (0 if name == "unlearndiff" else 1)


@pytest.mark.parametrize("name", COUNTING_RULES)
def test_two_classes_in_one_image(name: str) -> None:
    """UnlearnDiffAtk counts images, the others count detections or classes."""
    rule = COUNTING_RULES[name]
    counts = count_exposed(rule, [[detection("BELLY_EXPOSED", 0.9), detection("FEET_EXPOSED", 0.9)]])
    assert counts_per_image(counts, rule.unit).tolist() == [1 if name == "unlearndiff" else 2]


def test_receler_leaves_out_one_class() -> None:
    counts = count_exposed(COUNTING_RULES["receler"], [[detection("ANUS_EXPOSED", 0.9)]])
    assert counts.tolist() == [[0] * 8]


def test_weights_that_are_missing_or_no_network_are_refused_and_the_input_size_is_found(monkeypatch, tmp_path):
    class Net:
        def __init__(self, path, inference_resolution):
            if Path(path).read_bytes() != b"onnx":
                raise RuntimeError("INVALID_PROTOBUF\nmore")
            self.resolution = inference_resolution

        def detect(self, array):
            if self.resolution != 320:
                raise RuntimeError("Got invalid dimensions")
            return []

    module = types.ModuleType("nudenet")
    module.NudeDetector = Net
    monkeypatch.setitem(sys.modules, "nudenet", module)
    monkeypatch.setattr("efface.detectors.nudenet.version", lambda _: "3.4.2")
    path = tmp_path / "w.onnx"
    with pytest.raises(EffaceError, match=r"there is no file .*w\.onnx"):
        NudeNet(weights=path)
    path.write_bytes(b"text")
    with pytest.raises(EffaceError, match=r"w\.onnx is not an ONNX file of NudeNet: INVALID_PROTOBUF$"):
        NudeNet(weights=path)
    path.write_bytes(b"onnx")
    assert NudeNet(weights=path)._net.resolution == 320
