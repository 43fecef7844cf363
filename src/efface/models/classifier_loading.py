"""Loads image classifiers: pocket-classifier, folders, hub ids, and modules in memory with their preprocessing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from efface.core.errors import EffaceError
from efface.core.io import read_json

from .builder import CURE
from .classifier import ClassifierModel
from .classifier_folder import CLASSIFIER_BUNDLED, POCKET_ARCHITECTURE, check_classifier_folder
from .hub import download_classifier
from .memory import oom_as_user_error
from .model_ref import ModelRef, ModelSource
from .pipeline import silence_libraries
from .pocket_classifier import load_pocket_classifier
from .preprocess import ImageTransform, Preprocess
from .pretrained_loading import load_complete
from .transformers_loading import load_target, moved, name_of


def is_classifier_in_memory(ref: Any) -> bool:
    """Returns whether an object is a module with its preprocessing, or an image-classification pipeline."""
    if isinstance(ref, tuple):
        return len(ref) in (2, 3) and isinstance(ref[0], nn.Module) and callable(ref[1])
    return hasattr(ref, "image_processor") and hasattr(getattr(ref, "model", None), "config")


def wrap_classifier(ref: Any, options: ModelRef) -> ClassifierModel:
    """Returns the adapter of a module in memory, which stays on its device unless one is named.

    Args:
        ref: ``(module, preprocess)``, ``(module, preprocess, classes)`` or an image-classification pipeline.
        options: device and dtype.
    """
    module, transform, *classes = ref if isinstance(ref, tuple) else (ref.model, ref.image_processor)
    processor = transform if hasattr(transform, "image_mean") else None
    if processor is not None:
        transform = ImageTransform(Preprocess.from_settings(processor.to_dict(), "the image processor"))
    name = name_of(module, "classifier")
    return ClassifierModel(moved(module, options), transform, classes[0] if classes else None, name, processor)


def load_classifier(source: ModelSource, options: ModelRef) -> ClassifierModel:
    """Loads the classifier of a folder or hub id, from safetensors alone and without code of the repository.

    Raises:
        EffaceError: the model does not load, or memory does not suffice.
    """
    device, dtype = load_target(source.name, options, CLASSIFIER_BUNDLED)
    folder = Path(str(source.path)) if source.path else download_classifier(source.name, options.revision)
    check_classifier_folder(folder)
    config: Any = read_json(folder / "config.json")
    with oom_as_user_error(f"the model does not fit: {CURE}"), silence_libraries():
        if config["architectures"][0] == POCKET_ARCHITECTURE:
            model = load_pocket_classifier(folder, source.name)
        else:
            model = _load_from_transformers(folder, source.name)
        model.module.to(device, dtype)
        return model


def _load_from_transformers(folder: Path, name: str) -> ClassifierModel:
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    module = load_complete(AutoModelForImageClassification, folder, "an image classifier")
    try:
        processor = AutoImageProcessor.from_pretrained(folder, use_fast=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise EffaceError(f"the image processor of {name} does not load: {str(error).splitlines()[0]}") from error
    return ClassifierModel(module, ImageTransform(Preprocess.from_folder(folder)), None, name, processor)
