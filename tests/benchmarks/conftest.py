"""A folder with what a benchmark names: models, detectors and features."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from helpers.classifiers import saved_classifier, saved_clip
from helpers.tiny import erasure_of, tiny_model
from safetensors.torch import save_file

from efface.core.edits import Edit
from efface.detectors.inception import Inception
from efface.ops.tensor_conversion import to_blob


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


@pytest.fixture(scope="session")
def workspace(tmp_path_factory) -> Path:
    """A folder with a tiny model, an erasure, a classifier, a CLIP model, FID's network and a benchmark."""
    folder = tmp_path_factory.mktemp("workspace")
    model = tiny_model()
    model.pipe.save_pretrained(folder / "tiny")
    tensors = {name: p * 0.5 for name, p in model.parameter_group("cross_kv").parameters.items()}
    erasure_of(
        model, [Edit("unet", "replace", {n: n for n in tensors})], {n: to_blob(t) for n, t in tensors.items()}
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
