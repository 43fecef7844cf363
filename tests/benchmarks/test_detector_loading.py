"""Detectors, CLIP models and features by the names of a benchmark's file or of the command line."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers.classifiers import saved_classifier, saved_clip
from helpers.cli import call, check_refused
from helpers.tiny import erasure_of, tiny_model
from safetensors.torch import save_file

from efface.benchmarks.benchmark import Benchmark
from efface.benchmarks.collectors import MetricCollector
from efface.benchmarks.detector_loading import load_detector, load_features, required_classes
from efface.benchmarks.detector_names import DetectorSpec, validate_detector_names
from efface.core.edits import Edit
from efface.core.errors import EffaceError, UnknownNameError
from efface.detectors.inception import Inception
from efface.detectors.nudenet import COUNTING_RULES

WEAPON = Benchmark.load("pocket-weapon")


def own_benchmark(folder: Path, detector: str, clip: str) -> Path:
    """A benchmark for a tiny model, whose concept is the class church."""
    groups = {
        group: {"templates": 1, "seeds": 2, "phrases": [{"phrase": phrase, "expected": {"object": expected}}]}
        for group, phrase, expected in (
            ("name", "gun", "church"),
            ("domain", "a", "church"),
            ("near", "cat", "tench"),
            ("other", "dog", "tench"),
        )
    }
    split = {"seed": 7, "templates": [{"text": "a {}", "expected": {}}], "groups": groups}
    data = {
        "name": "mine",
        "version": 1,
        "description": "a church",
        "model": "tiny",
        "detector": detector,
        "clip": clip,
        "sampler": {"name": "ddim", "num_inference_steps": 2, "guidance_scale": 3.0},
        "concept": {"name": "gun", "retain_prompts": ["b"]},
        "target": {"head": "object", "classes": ["church"]},
        "attack_phrases": ["c"],
        "splits": {"test": split, "dev": {**split, "seed": 70}},
    }
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """A folder with a tiny model, an erasure, a classifier, a CLIP model, FID's network and a benchmark."""
    folder = tmp_path_factory.mktemp("workspace")
    model = tiny_model()
    model.pipe.save_pretrained(folder / "tiny")
    tensors = {name: p * 0.5 for name, p in model.parameter_group("cross_kv").parameters.items()}
    erasure_of(
        model, [Edit("unet", "replace", {n: n for n in tensors})], {n: _blob(t) for n, t in tensors.items()}
    ).save(folder / "e")
    saved_classifier(folder / "vit")
    saved_clip(folder / "clip")
    torch.manual_seed(0)
    save_file(
        {n: t for n, t in Inception().state_dict().items() if not n.endswith("tracked")},
        folder / "inception.safetensors",
    )
    own_benchmark(folder, f"imagenet:{folder / 'vit'}@0.1", str(folder / "clip"))
    return folder


def _blob(tensor: torch.Tensor):
    from efface.ops.tensor_conversion import to_blob

    return to_blob(tensor)


def test_evaluation_with_a_classifier_a_clip_model_and_inception(workspace, capfd):
    command = (
        "evaluate",
        workspace / "e",
        "--benchmark",
        workspace / "mine.yaml",
        "--model",
        workspace / "tiny",
        "--json",
    )
    output = call(capfd, *command)
    assert output.code == 0, output.err
    scores = {(s["metric"], s["group"]): s for s in json.loads(output.out)["scores"]}
    assert (scores["rer", "name"]["detector"]["id"], scores["rer", "name"]["detector"]["threshold"]) == ("vit", 0.1)
    assert scores["clip_score", "other"]["detector"]["id"] == "clip"
    assert scores["clip_score", "other"]["n"] == 2
    assert scores["kid", "other"]["detector"]["id"] == "vit"
    assert scores["kid", "other"]["value"] is not None
    options = ("--features", workspace / "inception.safetensors", "--detector", f"zero-shot:{workspace / 'clip'}")
    output = call(capfd, *command, *options)
    assert output.code == 0, output.err
    scores = {(s["metric"], s["group"]): s for s in json.loads(output.out)["scores"]}
    assert scores["kid", "other"]["detector"]["id"] == "inception-v3-fid"
    assert scores["rer", "name"]["detector"]["id"] == "zero-shot-clip"
    assert len(list((workspace / "e" / "evidence").iterdir())) == 2, "another detector has its own folder"
    output = call(
        capfd,
        "attack",
        workspace / "e",
        *command[2:-1],
        "--limit",
        1,
        "--detector",
        f"imagenet:{workspace / 'vit'}",
        "--set",
        "phrases=cat",
    )
    assert output.code == 0, output.err


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


def test_bad_names_give_one_line_errors(workspace, capfd):
    command = ("evaluate", workspace / "e", "--benchmark", workspace / "mine.yaml", "--model", workspace / "tiny")
    for options, messages in (
        (("--detector", "imagnet:x"), ("unknown detector", "imagenet:MODEL")),
        (("--detector", "imagenet:nowhere"), ("unknown model 'nowhere'", "a hub id such as org/name")),
        (("--detector", f"imagenet:{workspace / 'clip'}"), ("clip is not an image classifier: it lacks",)),
        (("--detector", f"zero-shot:{workspace / 'vit'}"), ("vit is not a CLIP model: it lacks",)),
        (("--detector", "pocket-judge"), ("does not fit this erasure", "knows images of pocket only")),
        (("--clip", "pocket-clip"), ("does not fit this erasure", "judged by pocket-clip")),
        (("--clip", workspace / "vit"), ("vit is not a CLIP model",)),
        (("--features", "none.onnx"), ("there is no feature file none.onnx",)),
        (("--features", workspace / "mine.yaml"), ("name a .safetensors file (FID's Inception) or a .onnx file",)),
        (("--features", "pt_inception.pth"), ("convert it once with python -c",)),
        (("--features", workspace / "vit" / "model.safetensors"), ("is not FID's Inception",)),
    ):
        check_refused(call(capfd, *command, *options), *messages)
    with pytest.raises(EffaceError, match="reports object, but pocket-weapon expects background, style"):
        load_detector(replace(WEAPON, detector=f"imagenet:{workspace / 'vit'}"))
    mine = Benchmark.load(workspace / "mine.yaml")
    with pytest.raises(EffaceError, match=r"has no class 'chruch', which mine expects: did you mean 'church'"):
        load_detector(replace(mine, classes=("chruch",)))


def test_hub_ids_are_fetched_as_safetensors_only(workspace, monkeypatch):
    asked = {}

    def download(ref, allow_patterns):
        asked[ref] = allow_patterns
        return str(workspace / "vit")

    monkeypatch.setattr("efface.models.hub.snapshot_download", download)
    detector = load_detector(replace(Benchmark.load(workspace / "mine.yaml"), detector="imagenet:org/vit"))
    assert detector.id.startswith("org/vit@")
    assert "model.safetensors" in asked["org/vit"]
    assert not any(pattern.endswith((".bin", ".py", ".pkl", "*")) for pattern in asked["org/vit"])


def test_a_benchmark_without_features_keeps_its_hash(workspace):
    mine = Benchmark.load(workspace / "mine.yaml")
    assert mine.features == ""
    assert replace(mine, features="x.onnx").hash != mine.hash
    from efface.core.serialization import json_hash, to_jsonable_dict

    assert mine.hash == json_hash({k: v for k, v in to_jsonable_dict(mine).items() if k != "features"})


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
