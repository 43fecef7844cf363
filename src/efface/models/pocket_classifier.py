"""Loads and writes pocket-classifier and its edited copies: ``config.json`` and ``model.safetensors`` in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from efface.core.errors import CorruptArtifactError

from .classifier import ClassifierModel
from .classifier_folder import POCKET_ARCHITECTURE
from .convnet import ConvClassifier
from .preprocess import ImageTransform, Preprocess

SIZE = 64
TRANSFORM = ImageTransform(Preprocess(SIZE, SIZE, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
"""The central square in 64 x 64 pixels, in [0, 1]."""


def load_pocket_classifier(folder: Path, name: str) -> ClassifierModel:
    """Loads a classifier of pocket-classifier's shape from its folder, in float32.

    Raises:
        CorruptArtifactError: the weights do not fit the configuration.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    module = ConvClassifier(config["widths"], len(config["classes"]))
    weights = {key: value.float() for key, value in load_file(folder / "model.safetensors").items()}
    expected = set(float_state(module))
    if set(weights) != expected:
        missing = sorted(expected ^ set(weights))
        raise CorruptArtifactError(f"{folder} does not fit its config.json: see {missing[0]}")
    module.load_state_dict(weights, strict=False)
    return ClassifierModel(module, TRANSFORM, config["classes"], name)


def save_pocket_classifier(
    module: ConvClassifier, classes: tuple[str, ...], folder: Path, extra: Mapping[str, Any], dtype: torch.dtype
) -> None:
    """Writes a classifier of pocket-classifier's shape.

    Args:
        module: the network.
        classes: names of its classes.
        folder: an existing folder.
        extra: further entries of ``config.json``.
        dtype: of the saved weights.
    """
    weights = {name: tensor.to(dtype).contiguous() for name, tensor in float_state(module).items()}
    save_file(weights, folder / "model.safetensors")
    config = {
        "architectures": [POCKET_ARCHITECTURE],
        "widths": module.features.widths,
        "classes": list(classes),
        **extra,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def float_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """Returns a module's parameters and floating-point buffers by name."""
    return {name: tensor for name, tensor in module.state_dict().items() if tensor.is_floating_point()}
