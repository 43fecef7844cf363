"""Exports an erasure of a classifier: the edited model as a folder for transformers, or in pocket-classifier's form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from efface.core.concept_names import concept_names
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.io import atomic_folder, user_file_errors
from efface.core.manifest import README
from efface.core.serialization import json_bytes, to_jsonable
from efface.models.classifier import ClassifierModel
from efface.models.convnet import ConvClassifier
from efface.models.pipeline import silence_libraries
from efface.models.pocket_classifier import float_state, save_pocket_classifier
from efface.ops.editing.apply import applied

from .formats import EXPORT_MANIFEST, Exported

_USAGE = {
    "transformers": "`AutoModelForImageClassification.from_pretrained(folder)` loads it.",
    "pocket": "`efface.load_model(folder)` loads it.",
    "state": "`module.load_state_dict(safetensors.torch.load_file('model.safetensors'), strict=False)` loads it.",
}
"""How to load an export, by the kind of its module."""


def write_classifier_export(
    model: ClassifierModel, erasure: Erasure, out: Path, allow_base_mismatch: bool, overwrite: bool
) -> Exported:
    """Writes the edited model, a README and the erasure's manifest; the model itself is restored.

    A module that is neither of transformers nor of pocket-classifier's shape is written as its weights alone.

    Raises:
        EffaceError: another base model, or a file error.
    """
    with atomic_folder(out, replace=overwrite) as new, user_file_errors(out), silence_libraries():
        with applied(model, erasure, allow_base_mismatch) as record:
            kind = _save(model, new)
        names = concept_names(erasure.concepts)
        text = f"# {erasure.spec.model} without {names}\n\nErased by {erasure.spec.method} with efface.\n\n"
        text += f"{_USAGE[kind]}\n"
        (new / README).write_text(text, encoding="utf-8")
        manifest = {"schema": 1, "format": "transformers", "erasure": erasure.spec.to_dict()}
        (new / EXPORT_MANIFEST).write_bytes(json_bytes(to_jsonable(manifest)))
        files = {path.relative_to(new).as_posix(): path.stat().st_size for path in new.rglob("*") if path.is_file()}
    return Exported(out, "transformers", files, record.distances, record.base_mismatch)


def _save(model: ClassifierModel, folder: Path) -> str:
    """Writes the module; returns the kind of the export."""
    module: Any = model.module
    if isinstance(module, ConvClassifier):
        save_pocket_classifier(module, model.classes, folder, {}, torch.float32)
        return "pocket"
    if hasattr(module, "save_pretrained") and model.processor is not None:
        module.save_pretrained(folder)
        model.processor.save_pretrained(folder)
        return "transformers"
    if not (state := float_state(module)):
        raise EffaceError(f"{model.name} has no weights to export")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "model.safetensors")
    return "state"
