"""The adapter of image classifiers: modules in memory, folders of transformers, pocket-classifier's form."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny_classifier import COLOURS, ColourNet, draw, tiny_classifier, transform
from PIL import Image
from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessor

from efface.core.errors import CorruptArtifactError, EffaceError
from efface.models.classifier import ClassifierModel
from efface.models.convnet import ConvClassifier
from efface.models.loading import load_model
from efface.models.model_ref import locate_model
from efface.models.pocket_classifier import save_pocket_classifier

LABELS = {0: "tench, Tinca tinca", 1: "crane, bird", 2: "crane, machine"}


def tiny_resnet() -> ResNetForImageClassification:
    torch.manual_seed(0)
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3, id2label=LABELS
    )
    return ResNetForImageClassification(config)


def processor() -> ViTImageProcessor:
    return ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3)


@pytest.fixture(scope="module")
def resnet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resnet")
    tiny_resnet().save_pretrained(folder)
    processor().save_pretrained(folder)
    return folder


def test_features_are_the_input_of_the_last_layer() -> None:
    model = tiny_classifier()
    inputs = model.preprocess([draw("red", 1), draw("blue", 2)])
    assert torch.allclose(model.last_layer(model.features(inputs)), model.logits(inputs), atol=1e-6)
    assert model.last_layer_name == "head"


def test_roles_share_out_the_parameters() -> None:
    model = tiny_classifier()
    groups = {role: set(model.parameter_group(role).parameters) for role in ("last_layer", "features", "all")}
    assert groups["last_layer"] == {"head.weight", "head.bias"}
    assert groups["last_layer"] | groups["features"] == groups["all"]
    assert not groups["last_layer"] & groups["features"]
    with pytest.raises(EffaceError, match="unknown role of a classifier 'heads'"):
        model.parameter_group("heads")


def test_a_module_in_memory_brings_its_preprocessing_and_classes() -> None:
    model = load_model((ColourNet(), transform, tuple(COLOURS)))
    assert isinstance(model, ClassifierModel)
    assert model.classes == tuple(COLOURS)
    with pytest.raises(EffaceError, match="ColourNet does not name its classes"):
        load_model((ColourNet(), transform))
    with pytest.raises(EffaceError, match="no linear layer of its 2 classes"):
        load_model((ColourNet(), transform, ("a", "b")))


def test_a_folder_of_transformers_equals_the_model_in_memory(resnet_folder: Path) -> None:
    loaded = load_model(resnet_folder)
    in_memory = load_model((tiny_resnet(), processor()))
    images = [Image.effect_noise((50, 40), 90).convert("RGB")]
    assert isinstance(loaded, ClassifierModel)
    assert isinstance(in_memory, ClassifierModel)
    assert loaded.classes == ("tench", "crane, bird", "crane, machine")
    assert torch.equal(loaded.logits(loaded.preprocess(images)), in_memory.logits(in_memory.preprocess(images)))
    assert loaded.fingerprint() == in_memory.fingerprint()


def test_pocket_classifiers_form_is_read_as_it_was_written(tmp_path: Path) -> None:
    module = ConvClassifier((4, 8), 2).eval()
    save_pocket_classifier(module, ("a", "b"), tmp_path, {}, torch.float32)
    loaded = load_model(tmp_path)
    assert isinstance(loaded, ClassifierModel)
    inputs = loaded.preprocess([Image.effect_noise((64, 64), 90)])
    with torch.no_grad():
        assert torch.equal(module(inputs), loaded.logits(inputs))
    save_pocket_classifier(ConvClassifier((4, 8, 8), 2), ("a", "b"), tmp_path, {}, torch.float32)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace("    8,\n    8\n", "    8\n"))
    with pytest.raises(CorruptArtifactError, match="does not fit its config"):
        load_model(tmp_path)


@pytest.mark.parametrize("missing", ["model.safetensors", "preprocessor_config.json"])
def test_an_incomplete_folder_is_refused_before_torch(resnet_folder: Path, tmp_path: Path, missing: str) -> None:
    for path in resnet_folder.iterdir():
        if path.name != missing:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(EffaceError, match=f"has no {missing}: save"):
        locate_model(tmp_path)
