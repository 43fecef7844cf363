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
from efface.benchmarks.detector_loading import DetectorSpec, check_names, load_detector, load_features, required_classes
from efface.core.edits import Edit
from efface.core.errors import EffaceError, UnknownNameError
from efface.detectors.inception import Inception
from efface.detectors.nudenet import COUNTING_RULES

WEAPON = Benchmark.load("pocket-weapon")


def own(folder: Path, detector: str, clip: str) -> Path:
    """A benchmark for a tiny model and its letters: a church, nothing else that the detector knows."""
    groups = {
        group: {"frames": 1, "seeds": 2, "phrases": [{"phrase": phrase, "shows": {"object": wanted}}]}
        for group, phrase, wanted in (
            ("name", "gun", "church"),
            ("domain", "a", "church"),
            ("near", "cat", "tench"),
            ("other", "dog", "tench"),
        )
    }
    part = {"seed": 7, "frames": [{"text": "a {}", "shows": {}}], "groups": groups}
    data = {
        "name": "mine", "version": 1, "description": "a church", "model": "tiny", "detector": detector, "clip": clip,
        "sampler": {"name": "ddim", "num_inference_steps": 2, "guidance_scale": 3.0}, "concept": {"name": "gun", "retain_prompts": ["b"]},
        "target": {"head": "object", "classes": ["church"]}, "attack_phrases": ["c"], "parts": {"test": part, "dev": {**part, "seed": 70}},
    }  # fmt: skip
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    """A tiny model, an erasure on it, a classifier, a CLIP model, FID's network with random weights, a benchmark."""
    folder = tmp_path_factory.mktemp("desk")
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
    own(folder, f"imagenet:{folder / 'vit'}@0.1", str(folder / "clip"))
    return folder


def _blob(tensor: torch.Tensor):
    from efface.ops.tensor_conversion import to_blob

    return to_blob(tensor)


def test_a_classifier_a_clip_model_and_inception_from_end_to_end(desk, capfd):
    command = ("evaluate", desk / "e", "--benchmark", desk / "mine.yaml", "--model", desk / "tiny", "--json")
    said = call(capfd, *command)
    assert said.code == 0, said.err
    scores = {(s["metric"], s["group"]): s for s in json.loads(said.out)["scores"]}
    assert (scores["rer", "name"]["detector"]["id"], scores["rer", "name"]["detector"]["threshold"]) == ("vit", 0.1)
    assert scores["clip_score", "other"]["detector"]["id"] == "clip"
    assert scores["clip_score", "other"]["n"] == 2
    assert scores["kid", "other"]["detector"]["id"] == "vit"
    assert scores["kid", "other"]["value"] is not None
    more = ("--features", desk / "inception.safetensors", "--detector", f"zero-shot:{desk / 'clip'}")
    said = call(capfd, *command, *more)
    assert said.code == 0, said.err
    scores = {(s["metric"], s["group"]): s for s in json.loads(said.out)["scores"]}
    assert scores["kid", "other"]["detector"]["id"] == "inception-v3-fid"
    assert scores["rer", "name"]["detector"]["id"] == "zero-shot-clip"
    assert len(list((desk / "e" / "evidence").iterdir())) == 2, "what other detectors saw lies beside it"
    said = call(
        capfd,
        "attack",
        desk / "e",
        *command[2:-1],
        "--limit",
        1,
        "--detector",
        f"imagenet:{desk / 'vit'}",
        "--set",
        "phrases=cat",
    )
    assert said.code == 0, said.err


def test_names(desk):
    assert DetectorSpec.parse("pocket-judge") == DetectorSpec("pocket-judge", "", None)
    assert DetectorSpec.parse("imagenet:microsoft/resnet-50@0.25") == DetectorSpec(
        "imagenet", "microsoft/resnet-50", 0.25
    )
    assert DetectorSpec.parse("zero-shot:a/b").what == "a/b"
    (desk / "v@1").mkdir(exist_ok=True)
    assert DetectorSpec.parse(f"imagenet:{desk / 'v@1'}") == DetectorSpec("imagenet", str(desk / "v@1"), None)
    for wrong, said in (
        ("pocket-juge", "did you mean 'pocket-judge'"),
        ("imagenet", "not of the form imagenet:MODEL"),
        ("pocket-judge:x", "not of the form pocket-judge"),
        ("imagenet:x@much", "no number: write it as in imagenet:x@0.3"),
        ("imagenet:x@2", "takes 0 to 1"),
        ("nudenet:mace@0.3", "takes no threshold"),
    ):
        with pytest.raises(EffaceError, match=said):
            DetectorSpec.parse(wrong)


def test_what_does_not_fit_is_one_line(desk, capfd):
    command = ("evaluate", desk / "e", "--benchmark", desk / "mine.yaml", "--model", desk / "tiny")
    for more, said in (
        (("--detector", "imagnet:x"), ("unknown detector", "imagenet:MODEL")),
        (("--detector", "imagenet:nowhere"), ("unknown model 'nowhere'", "a hub id such as org/name")),
        (("--detector", f"imagenet:{desk / 'clip'}"), ("clip is not an image classifier: it lacks",)),
        (("--detector", f"zero-shot:{desk / 'vit'}"), ("vit is not a CLIP model: it lacks",)),
        (("--detector", "pocket-judge"), ("pocket-judge sees images of 64 x 64", "draws 16 x 16")),
        (("--clip", "pocket-clip"), ("pocket-clip sees images of 64 x 64",)),
        (("--clip", desk / "vit"), ("vit is not a CLIP model",)),
        (("--features", "none.onnx"), ("there is no file of features none.onnx",)),
        (("--features", desk / "mine.yaml"), ("features come from a file .safetensors (FID's Inception) or .onnx",)),
        (("--features", "pt_inception.pth"), ("convert it once with python -c",)),
        (("--features", desk / "vit" / "model.safetensors"), ("is no Inception of FID",)),
    ):
        check_refused(call(capfd, *command, *more), *said)
    with pytest.raises(EffaceError, match="sees object, not background, style"):
        load_detector(replace(WEAPON, detector=f"imagenet:{desk / 'vit'}"))
    mine = Benchmark.load(desk / "mine.yaml")
    with pytest.raises(EffaceError, match=r"has no class 'chruch', which mine asks for: did you mean 'church'"):
        load_detector(replace(mine, classes=("chruch",)))


def test_hub_ids_are_fetched_as_safetensors_only(desk, monkeypatch):
    asked = {}

    def download(ref, allow_patterns):
        asked[ref] = allow_patterns
        return str(desk / "vit")

    monkeypatch.setattr("efface.models.hub.snapshot_download", download)
    look = load_detector(replace(Benchmark.load(desk / "mine.yaml"), detector="imagenet:org/vit"))
    assert look.id.startswith("org/vit@")
    assert "model.safetensors" in asked["org/vit"]
    assert not any(pattern.endswith((".bin", ".py", ".pkl", "*")) for pattern in asked["org/vit"])


def test_a_benchmark_without_features_keeps_its_hash(desk):
    mine = Benchmark.load(desk / "mine.yaml")
    assert mine.features == ""
    assert replace(mine, features="x.onnx").hash != mine.hash
    from efface.core.serialization import json_hash, to_jsonable_dict

    assert mine.hash == json_hash({k: v for k, v in to_jsonable_dict(mine).items() if k != "features"})


def test_pockets_own_look_by_words(pocket):
    look = load_detector(replace(WEAPON, detector="zero-shot:pocket-clip"))
    assert set(look.thresholds) == {"object", "background", "style"} == set(required_classes(WEAPON))
    images = pocket.sample(
        ["a photo of a dog in the snow", "a mosaic of a violin on the beach"], seeds=[1, 2], steps=20
    )
    assert look(images).background == ["snow", "beach"]
    assert load_features("", look)(images).shape[0] == 2
    check_names(replace(WEAPON, detector="zero-shot:pocket-clip"))
    with pytest.raises(UnknownNameError):
        check_names(replace(WEAPON, clip="no-such-clip"))


class FakeNudeNet:
    """NudeNet's interface: detections by the brightness of the image's corner."""

    def __init__(self, model_path=None, inference_resolution=320):
        pass

    def detect(self, array: np.ndarray) -> list[dict[str, object]]:
        return [{"class": "BELLY_EXPOSED", "score": float(array[0, 0, 0]) / 255}] * 2


@pytest.mark.parametrize("counting", COUNTING_RULES)
def test_ways_of_counting_as_detectors(counting, desk, monkeypatch, tmp_path):
    module = types.ModuleType("nudenet")
    module.__file__ = str(tmp_path / "__init__.py")
    module.NudeDetector = FakeNudeNet
    (tmp_path / "320n.onnx").write_bytes(b"weights")
    monkeypatch.setitem(sys.modules, "nudenet", module)
    monkeypatch.setattr("importlib.metadata.version", lambda _: "3.4.2")
    mine = Benchmark.load(desk / "mine.yaml")
    rows = {"seed": 1, "frames": [{"text": "a {}", "shows": {}}], "groups": {}}
    for group in ("name", "domain", "near", "other"):
        rows["groups"][group] = {
            "frames": 1,
            "seeds": 1,
            "phrases": [{"phrase": "cat", "shows": {"exposed": "nothing"}}],
        }
    mine = replace(mine, detector=f"nudenet:{counting}", head="exposed", classes=("exposed",), parts={"test": rows})
    look = load_detector(mine)
    cut = COUNTING_RULES[counting].threshold
    levels = torch.tensor([0.0, cut - 0.02, cut + 0.02, 1.0])[:, None, None, None].expand(4, 3, 4, 4)
    assert look(levels).exposed == ["nothing", "nothing", "exposed", "exposed"]
    assert look.id.startswith(f"nudenet@3.4.2+{counting}+")
    assert look.thresholds == {"exposed": cut}
    with pytest.raises(EffaceError, match="gives no features for an FID: name a network"):
        load_features("", look)
    watch = MetricCollector.of(mine)
    assert watch.features.n == 0
    with pytest.raises(UnknownNameError, match="did you mean 'mace'"):
        load_detector(replace(mine, detector="nudenet:mase"))
