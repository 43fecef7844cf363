"""Detectors by name: how a name is read, pocket's CLIP without training, and NudeNet's counting rules."""

from __future__ import annotations

import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch

from efface.benchmarks.benchmark import Benchmark
from efface.benchmarks.collectors import MetricCollector
from efface.benchmarks.detector_loading import load_detector, load_features, required_classes
from efface.benchmarks.detector_names import DetectorSpec, validate_detector_names
from efface.core.errors import EffaceError, UnknownNameError
from efface.detectors.nudenet import COUNTING_RULES

WEAPON = Benchmark.load("pocket-weapon")


def test_detector_names(workspace):
    assert DetectorSpec.parse("pocket-judge") == DetectorSpec("pocket-judge", "", None)
    assert DetectorSpec.parse("imagenet:microsoft/resnet-50@0.25") == DetectorSpec(
        "imagenet", "microsoft/resnet-50", 0.25
    )
    assert DetectorSpec.parse("zero-shot:a/b").source == "a/b"
    (workspace / "v@1").mkdir(exist_ok=True)
    assert DetectorSpec.parse(f"imagenet:{workspace / 'v@1'}") == DetectorSpec("imagenet", str(workspace / "v@1"), None)
    for wrong, message in (
        ("pocket-juge", "did you mean 'pocket-judge'"),
        ("imagenet", "not of the form imagenet:MODEL"),
        ("pocket-judge:x", "not of the form pocket-judge"),
        ("imagenet:x@much", "not a number: write it as in imagenet:x@0.3"),
        ("imagenet:x@2", "at least 0 and below 1, not 2"),
        ("nudenet:mace@0.3", "takes no threshold"),
    ):
        with pytest.raises(EffaceError, match=message):
            DetectorSpec.parse(wrong)


def test_zero_shot_detector_with_pockets_clip(pocket):
    detector = load_detector(replace(WEAPON, detector="zero-shot:pocket-clip"))
    assert set(detector.thresholds) == {"object", "background", "style"} == set(required_classes(WEAPON))
    images = pocket.sample(
        ["a photo of a dog in the snow", "a mosaic of a violin on the beach"], seeds=[1, 2], num_inference_steps=20
    )
    assert detector(images).background == ["snow", "beach"]
    assert load_features("", detector)(images).shape[0] == 2
    validate_detector_names(replace(WEAPON, detector="zero-shot:pocket-clip"))
    with pytest.raises(UnknownNameError):
        validate_detector_names(replace(WEAPON, clip="no-such-clip"))


class FakeNudeNet:
    """NudeNet's interface: detections by the brightness of the image's corner."""

    def __init__(self, model_path=None, inference_resolution=320):
        pass

    def detect(self, array: np.ndarray) -> list[dict[str, object]]:
        return [{"class": "BELLY_EXPOSED", "score": float(array[0, 0, 0]) / 255}] * 2


@pytest.mark.parametrize("counting", COUNTING_RULES)
def test_nudenet_counting_rules_as_detectors(counting, workspace, monkeypatch, tmp_path):
    module = types.ModuleType("nudenet")
    module.__file__ = str(tmp_path / "__init__.py")
    module.NudeDetector = FakeNudeNet
    (tmp_path / "320n.onnx").write_bytes(b"weights")
    monkeypatch.setitem(sys.modules, "nudenet", module)
    monkeypatch.setattr("efface.detectors.nudenet.version", lambda _: "3.4.2")
    mine = Benchmark.load(workspace / "mine.yaml")
    split = {"seed": 1, "templates": [{"text": "a {}", "expected": {}}], "groups": {}}
    for group in ("name", "domain", "near", "other"):
        split["groups"][group] = {
            "templates": 1,
            "seeds": 1,
            "phrases": [{"phrase": "cat", "expected": {"exposed": "nothing"}}],
        }
    mine = replace(mine, detector=f"nudenet:{counting}", head="exposed", classes=("exposed",), splits={"test": split})
    detector = load_detector(mine)
    threshold = COUNTING_RULES[counting].threshold
    levels = torch.tensor([0.0, threshold - 0.02, threshold + 0.02, 1.0])[:, None, None, None].expand(4, 3, 4, 4)
    assert detector(levels).exposed == ["nothing", "nothing", "exposed", "exposed"]
    assert detector.id.startswith(f"nudenet@3.4.2+{counting}+")
    assert detector.thresholds == {"exposed": threshold}
    with pytest.raises(EffaceError, match="gives no features for FID: name a network"):
        load_features("", detector)
    collector = MetricCollector.for_benchmark(mine)
    assert collector.feature_stream.n == 0
    with pytest.raises(UnknownNameError, match="did you mean 'mace'"):
        load_detector(replace(mine, detector="nudenet:mase"))
