"""Exports an erasure with modules, gates or guidance as a pipeline that diffusers loads without efface."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.serialization import json_bytes, to_jsonable
from efface.core.tensors import TensorBlob, write_tensors
from efface.ops.editing.gate_settings import read_gate
from efface.ops.editing.inserted_modules import resolve_layer
from efface.ops.editing.module_edits import group_by_layer
from efface.ops.tensor_conversion import to_torch

from . import erased_pipeline
from .formats import added_edits
from .weight_fusion import PipelineModel

PIPELINE_FILE = "pipeline.py"
"""File name under which diffusers looks for a pipeline in a folder."""


def check_pipeline(model: PipelineModel) -> None:
    """Raises `EffaceError` for a model that the exported pipeline cannot be."""
    name = type(model.pipe).__name__
    if name != "StableDiffusionPipeline":
        raise EffaceError(f"the format pipeline is for Stable Diffusion 1 and 2, and this model is a {name}")


def write_pipeline_files(model: PipelineModel, erasure: Erasure, folder: Path) -> None:
    """Writes the edits that weights cannot hold, their tensors, and the code of the pipeline."""
    tensors: dict[str, TensorBlob] = {}
    edits = [_described(model, edit, erasure, tensors) for edit in added_edits(erasure)]
    (folder / erased_pipeline.EDITS_FILE).write_bytes(json_bytes(to_jsonable(edits)))
    write_tensors(folder / erased_pipeline.TENSORS_FILE, tensors, {})
    shutil.copyfile(erased_pipeline.__file__, folder / PIPELINE_FILE)


def _described(model: PipelineModel, edit: Edit, erasure: Erasure, tensors: dict[str, TensorBlob]) -> dict[str, Any]:
    """Returns an edit as the pipeline reads it; its tensors are added to ``tensors``."""
    layers: dict[str, dict[str, str]] = {}
    if edit.op == "module":
        kind = str(edit.params["kind"])
        stored = {role: to_torch(erasure.tensors[name]) for role, name in edit.tensors.items()}
        for name, own in group_by_layer(stored, kind).items():
            path = resolve_layer(model.components[edit.component], name, f"the {kind} in {edit.component}")
            layers[path] = {end: edit.tensors[f"{name}.{end}"] for end in own}
        tensors |= {name: TensorBlob.of(erasure.tensors[name]) for name in edit.tensors.values()}
    gate = {"kind": edit.gate["kind"], **vars(read_gate(edit.gate))} if edit.gate else {}
    return {"component": edit.component, "params": edit.params, "gate": gate, "layers": layers}
