"""Detectors, CLIP models and features by the names of a benchmark's file or of the command line."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from helpers.cli import call, check_refused

from efface.benchmarks.benchmark import Benchmark
from efface.benchmarks.detector_loading import load_detector
from efface.core.errors import EffaceError

WEAPON = Benchmark.load("pocket-weapon")


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
