"""Writes an erasure in one of the export formats, completely or not at all."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.io import atomic_folder, sha256_file, user_file_errors
from efface.core.manifest import read_manifest
from efface.core.serialization import json_bytes, to_jsonable
from efface.core.spec import package_versions
from efface.core.tensors import write_tensors
from efface.models.checkpoint_settings import settings_metadata
from efface.models.pipeline import silence_libraries
from efface.models.quantization import has_quantized_layers
from efface.ops.tensor_conversion import to_blob
from efface.ops.training.progress import Progress, Silent

from .custom_pipeline import check_pipeline, write_pipeline_files
from .formats import EXPORT_MANIFEST, LORA_FORMATS, Exported, added_edits, as_low_rank, check_format
from .lora import lora_factors
from .lora_formats import kohya_metadata, kohya_tensors, original_factors, peft_tensors
from .model_card import render_model_card
from .single_file import check_single_file, checkpoint_tensors
from .weight_fusion import BaseComparison, PipelineModel, edited_components, fused_weights

SCHEMA = 1
PEFT_FILE = "pytorch_lora_weights.safetensors"
"""File name under which diffusers looks for a LoRA in a folder."""
PACKAGES = ("efface", "torch", "diffusers", "transformers", "peft")
"""Packages whose versions the export's manifest records."""


def write_export(
    model: PipelineModel, erasure: Erasure, out: Path, format: str, *, rank: int | None = None,
    allow_base_mismatch: bool = False, overwrite: bool = False, progress: Progress | None = None,
) -> Exported:  # fmt: skip
    """Writes an erasure in a format, with a model card and the erasure's manifest.

    Args:
        model: Base model; the erasure is applied during the export and every byte is restored afterwards.
        erasure: Erasure; the model card reports the evidence in its folder, if it has one.
        out: Folder to write.
        format: One of `efface.exporters.formats.FORMATS`.
        rank: Rank of the LoRA for replaced matrices.
        allow_base_mismatch: Accept a base model other than the erasure's own.
        overwrite: Replace an earlier export in ``out``; other folders are never replaced.
        progress: Progress display; None shows nothing.

    Raises:
        BaseModelMismatchError: The model is not the base the erasure was made for.
        EffaceError: An edit that the format cannot hold, or an invalid output folder.
    """
    check_format(erasure, format, rank)
    erasure, lost = as_low_rank(erasure) if format in LORA_FORMATS else (erasure, "")
    if lost:
        warnings.warn(f"{lost[0].lower()}{lost[1:-1]}; apply the erasure with efface to keep it", stacklevel=2)
    if overwrite and out.is_dir() and any(out.iterdir()) and not (out / EXPORT_MANIFEST).is_file():
        raise EffaceError(f"{out} is not an export, so it is not replaced: choose another folder")
    with (
        atomic_folder(out, replace=overwrite) as new,
        _progress_bar(progress or Silent(), format) as advance,
        user_file_errors(out),
    ):
        if format in LORA_FORMATS:
            base, residuals = _write_lora(model, erasure, new, format, rank, allow_base_mismatch, advance)
        else:
            base, residuals = _write_weights(model, erasure, new, format, allow_base_mismatch, advance), {}
        files = _file_sizes(new)
        exported = Exported(out, format, files, base.distances, base.base_mismatch, residuals, lost)
        documents = _write_documents(model, erasure, exported, new)
    return replace(exported, files={**files, **documents})


def _file_sizes(folder: Path) -> dict[str, int]:
    """Size in bytes of every file below a folder, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _write_lora(
    model: PipelineModel,
    erasure: Erasure,
    folder: Path,
    format: str,
    rank: int | None,
    allow_base_mismatch: bool,
    advance: Callable[[int, int], None],
) -> tuple[BaseComparison, dict[str, float]]:
    """Writes a LoRA; returns the comparison of the base models and the approximation error by layer."""
    factors, base = lora_factors(model, erasure, rank, allow_base_mismatch, advance)
    if format == "peft":
        file, tensors, metadata = PEFT_FILE, peft_tensors(factors), {}
    else:
        file = f"{erasure.spec.folder_name}.safetensors"
        transformer = model.components.get("transformer")
        named = factors if transformer is None else original_factors(factors, transformer)
        tensors = kohya_tensors(named, "text_encoder_2" in model.components)
        metadata = kohya_metadata(erasure, max(len(factor.down) for factor in named))
    write_tensors(folder / file, {key: to_blob(tensor) for key, tensor in tensors.items()}, metadata)
    return base, {f"{f.component}.{f.layer}": f.residual for f in factors if f.residual is not None}


def _write_weights(
    model: PipelineModel,
    erasure: Erasure,
    folder: Path,
    format: str,
    allow_base_mismatch: bool,
    advance: Callable[[int, int], None],
) -> BaseComparison:
    """Writes the edited weights as a pipeline, as components or as a single file."""
    if any(map(has_quantized_layers, model.components.values())):
        raise EffaceError(
            f"{model.name} is quantized, so that no edit is written into its weights: export a LoRA (peft, kohya), or "
            "give the base in full precision with --allow-base-mismatch (allow_base_mismatch=True)"
        )
    advance(0, 1)
    if format == "single-file":
        check_single_file(model, erasure)
    if format == "pipeline":
        check_pipeline(model)
    left_out = added_edits(erasure) if format == "pipeline" else []
    with fused_weights(model, erasure, allow_base_mismatch, left_out) as base, silence_libraries():
        if format in ("diffusers", "pipeline"):
            model.pipe.save_pretrained(folder)
        elif format == "component":
            for name in edited_components(model, erasure):
                component: Any = model.components[name]
                component.save_pretrained(folder / name)
        else:
            tensors = {key: to_blob(tensor, copy=False) for key, tensor in checkpoint_tensors(model).items()}
            file = folder / f"{erasure.spec.folder_name}.safetensors"
            write_tensors(file, tensors, {} if "transformer" in model.components else settings_metadata(model.pipe))
    if format == "pipeline":
        write_pipeline_files(model, erasure, folder)
    advance(1, 1)
    return base


def _write_documents(model: PipelineModel, erasure: Erasure, exported: Exported, folder: Path) -> dict[str, int]:
    """Writes the model card and the manifest; returns their sizes in bytes."""
    classes = [(name, type(model.components[name])) for name in edited_components(model, erasure)]
    components = tuple((name, cls.__module__.partition(".")[0], cls.__name__) for name, cls in classes)
    hashes = {name: sha256_file(folder / name) for name in exported.files}
    card = render_model_card(exported, erasure, erasure.folder, type(model.pipe).__name__, components)
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / EXPORT_MANIFEST).write_bytes(json_bytes(to_jsonable(_manifest(exported, erasure, hashes))))
    return {name: (folder / name).stat().st_size for name in ("README.md", EXPORT_MANIFEST)}


@contextmanager
def _progress_bar(progress: Progress, format: str) -> Iterator[Callable[[int, int], None]]:
    """Yields a callback ``(done, total)``; its first call starts the progress bar."""
    started = False

    def advance(done: int, total: int) -> None:
        nonlocal started
        if not started:
            progress.start(f"export ({format})", total, done)
            started = True
        progress.update(done, {})

    try:
        yield advance
    finally:
        if started:
            progress.stop()


def _manifest(exported: Exported, erasure: Erasure, hashes: dict[str, str]) -> dict[str, Any]:
    """Content of the export's manifest: format, versions, base comparison, file hashes, and the erasure's manifest."""
    if erasure.folder:
        erasure_manifest = read_manifest(erasure.folder)
    else:
        erasure_manifest = {**erasure.spec.to_dict(), "run": erasure.spec.hash}
    return {
        "schema": SCHEMA,
        "format": exported.format,
        "versions": package_versions(PACKAGES),
        "base": {"distances": exported.distances, "base_mismatch": exported.base_mismatch},
        "residuals": exported.residuals,
        "files": {name: {"bytes": exported.files[name], "sha256": digest} for name, digest in hashes.items()},
        "erasure": erasure_manifest,
    }
