"""Classifiers in transformers' layout: tiny ones built from configurations, against the library's own forward pass."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.classifiers import LABELS, PREPROCESS, saved_classifier, saved_clip
from safetensors.torch import load_file, save_file

from efface.core.errors import EffaceError
from efface.detectors.classifier import Classifier, label_names
from efface.detectors.hf_clip import ClipModelScore
from efface.detectors.pocket_judge import CANNOT_TELL
from efface.detectors.preprocess import Preprocess
from efface.detectors.zero_shot import ZeroShot


def random_images(n: int, side: int = 16) -> torch.Tensor:
    """Of a colour each, with noise."""
    generator = torch.Generator().manual_seed(0)
    return (
        torch.rand(n, 3, 1, 1, generator=generator) + 0.3 * torch.rand(n, 3, side, side, generator=generator)
    ).clamp(0, 1)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_the_librarys_first_class(kind: str, tmp_path: Path) -> None:
    model, look, images = saved_classifier(tmp_path, kind), Classifier(tmp_path), random_images(40)
    mean, deviation = (torch.tensor(PREPROCESS[key])[:, None, None] for key in ("image_mean", "image_std"))
    with torch.no_grad():
        logits = model(pixel_values=(images - mean) / deviation).logits
    seen = look(images)
    assert seen.object == [label_names(LABELS)[i] for i in logits.argmax(-1).tolist()]
    assert len(set(seen.object)) > 1
    layer = model.classifier if kind == "vit" else model.classifier[-1]
    torch.testing.assert_close(seen.features @ layer.weight.T + layer.bias, logits, atol=1e-4, rtol=1e-4)
    assert torch.equal(look.features(images), seen.features)
    assert look.id == f"{tmp_path.name}@{look.id.rpartition('@')[2]}"
    sure = logits.softmax(-1).amax(-1)
    level = float(sure.median())
    strict = Classifier(tmp_path, "org/name", threshold=level)
    assert [one == CANNOT_TELL for one in strict(images).object] == (sure < level).tolist()
    assert (strict.id.partition("@")[0], strict.thresholds) == ("org/name", {"object": level})


def test_class_names() -> None:
    assert label_names(LABELS) == ("church", "tench", "crane, bird", "crane, machine", "cassette player")


@pytest.mark.parametrize(
    ("said", "side", "crop"),
    [
        ({"size": 224, "do_center_crop": False}, 224, 224),
        (
            {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
            256,
            224,
        ),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, 256, 224),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, 384, 384),
    ],
)
def test_processors(said: dict[str, object], side: int, crop: int, tmp_path: Path) -> None:
    scale = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3, "resample": 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**scale, **said}))
    ready = Preprocess.of(tmp_path)
    assert (ready.side, ready.crop, ready.filter) == (side, crop, "bicubic")
    assert ready(random_images(1, 32)).shape == (1, 3, crop, crop)
    if crop < side:
        marked = torch.zeros(1, 3, side, side)
        marked[..., side // 2, side // 2] = 1
        assert ready(marked).amax((0, 1)).argmax() == (crop // 2) * crop + crop // 2, "the middle"


def test_folders_that_are_no_classifiers(tmp_path: Path) -> None:
    def refused(folder: Path, said: str) -> None:
        with pytest.raises(EffaceError, match=said) as caught:
            Classifier(folder)
        assert "\n" not in str(caught.value)

    refused(tmp_path, r"not an image classifier: it has no config\.json")
    saved_classifier(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    refused(tmp_path, "does not load as an image classifier")
    weights.rename(tmp_path / "pytorch_model.bin")
    refused(tmp_path, r"no model\.safetensors")
    weights.write_bytes(whole)
    tensors = load_file(weights)
    save_file({name: tensor for name, tensor in tensors.items() if not name.startswith("classifier.")}, weights)
    refused(tmp_path, "it lacks 2 of its tensors, such as classifier.bias")
    weights.write_bytes(whole)
    (tmp_path / "preprocessor_config.json").write_text('{"size": {}}')
    refused(tmp_path, "does not say size")
    (tmp_path / "preprocessor_config.json").unlink()
    refused(tmp_path, r"has no preprocessor_config\.json")
    saved_classifier(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    code = {
        **config,
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.Config", "AutoModelForImageClassification": "own.Model"},
    }
    (tmp_path / "config.json").write_text(json.dumps(code))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    refused(tmp_path, "does not load as an image classifier")
    assert not (tmp_path / "ran").exists(), "no code of a folder is run"


def test_zero_shot_names_the_nearest_word(tmp_path: Path) -> None:
    saved_clip(tmp_path)
    scorer, images = ClipModelScore(tmp_path), random_images(12, 8)
    words = {"object": ("cat", "dog", "hot_dog"), "style": ("mosaic", "photo")}
    look = ZeroShot(scorer, words)
    seen = look(images)
    texts = scorer.text_features(["a photo of cat", "a photo of dog", "a photo of hot dog"])
    cosines = scorer.image_features(images) @ texts.T
    assert seen.object == [words["object"][i] for i in cosines.argmax(-1).tolist()]
    assert set(seen.style) <= set(words["style"])
    assert look.thresholds == {"object": 0.0, "style": 0.0}
    assert look.id.startswith(f"zero-shot-{tmp_path.name}@{scorer.detector.version}+")
    assert ZeroShot(scorer, {"object": ("cat", "gun")}).id != ZeroShot(scorer, {"object": ("cat", "dog")}).id, (
        "words are part of the name"
    )
    assert set(ZeroShot(scorer, words, 0.999)(images).object) == {CANNOT_TELL}
    torch.testing.assert_close(seen.features.norm(dim=-1), torch.ones(12))
    with pytest.raises(AttributeError):
        _ = seen.background
