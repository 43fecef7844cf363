"""Checks before any heavy import that a folder holds an image classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from efface.core.errors import EffaceError
from efface.core.io import read_json

CLASSIFIER_BUNDLED = ("pocket-classifier",)
"""Names of the image classifiers that ship with efface."""
POCKET_ARCHITECTURE = "PocketClassifier"
"""Architecture that pocket-classifier's ``config.json`` and those of its edited copies name."""
PROCESSOR = "preprocessor_config.json"


def is_classifier_config(config: Any) -> bool:
    """Returns whether the content of a ``config.json`` is that of an image classifier."""
    architectures = config.get("architectures") if isinstance(config, dict) else None
    name = str(architectures[0]) if architectures else ""
    return name == POCKET_ARCHITECTURE or name.endswith("ForImageClassification")


def is_classifier_folder(folder: Path) -> bool:
    """Returns whether a folder holds an image classifier of transformers or of pocket-classifier's shape."""
    path = folder / "config.json"
    return path.is_file() and not (folder / "model_index.json").is_file() and is_classifier_config(read_json(path))


def check_classifier_folder(folder: Path) -> None:
    """Checks that a classifier's folder is complete.

    Raises:
        EffaceError: it has no safetensors or no image processor.
    """
    if not (folder / "model.safetensors").is_file():
        raise EffaceError(f"{folder} has no model.safetensors: save the classifier with model.save_pretrained")
    config: Any = read_json(folder / "config.json")
    if config["architectures"][0] != POCKET_ARCHITECTURE and not (folder / PROCESSOR).is_file():
        raise EffaceError(f"{folder} has no {PROCESSOR}: save the model's image processor in it")
