"""Writes an erasure in one of the forms: whole, or not at all."""

from __future__ import annotations

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
from efface.models.pipeline import silence_libraries
from efface.ops.tensor_conversion import to_blob
from efface.ops.training.progress import Progress, Silent

from .formats import EXPORT, LORA, Exported, check_form
from .lora import lora_factors
from .lora_formats import kohya_tensors, peft_tensors
from .model_card import render_model_card
from .single_file import metadata_of, original_tensors
from .weight_fusion import BaseComparison, PipelineModel, edited_components, fused_state

SCHEMA = 1
PEFT_FILE = "pytorch_lora_weights.safetensors"
"""Where diffusers looks for a LoRA in a folder."""


def export(
    model: PipelineModel, erasure: Erasure, out: Path, form: str, *, rank: int | None = None, force: bool = False, overwrite: bool = False,
    progress: Progress | None = None,
) -> Exported:  # fmt: skip
    """Writes an erasure in a form, with a model card and the erasure's manifest.

    Args:
        model: the base; while this works the erasure is on it, afterwards every byte is as before.
        erasure: loaded from a folder, whose evidence goes into the card; one in memory has none.
        out: the folder.
        form: one of `efface.exporters.formats.FORMS`.
        rank: of the LoRA for replaced matrices.
        force: whether the base may be another one.
        overwrite: whether an export that is there may be replaced; another folder never is.
        progress: where to show progress.

    Raises:
        BaseMismatch: the model is not the base that the erasure was made for.
        EffaceError: what the form cannot hold, or no place.
    """
    check_form(erasure, form, rank)
    if overwrite and out.is_dir() and any(out.iterdir()) and not (out / EXPORT).is_file():
        raise EffaceError(f"{out} is not an export, so that it is not replaced: choose another folder")
    with (
        atomic_folder(out, replace=overwrite) as new,
        _shown(progress or Silent(), form) as step,
        user_file_errors(out),
    ):
        base, residuals = _write(model, erasure, new, form, rank, force, step)
        written = sorted(path for path in new.rglob("*") if path.is_file())
        files = {path.relative_to(new).as_posix(): path.stat().st_size for path in written}
        hashes = {name: sha256_file(new / name) for name in files}
        done = Exported(out, form, files, base.distances, base.forced, residuals)
        text = render_model_card(done, erasure, erasure.folder, type(model.pipe).__name__, _classes(model, erasure))
        (new / "README.md").write_text(text, encoding="utf-8")
        (new / EXPORT).write_bytes(json_bytes(to_jsonable(_manifest(done, erasure, hashes))))
        more = {name: (new / name).stat().st_size for name in ("README.md", EXPORT)}
    return replace(done, files={**files, **more})


def _write(
    model: PipelineModel,
    erasure: Erasure,
    new: Path,
    form: str,
    rank: int | None,
    force: bool,
    step: Callable[[int, int], None],
) -> tuple[BaseComparison, dict[str, float]]:
    """Writes the weights; returns how the base compares and what a LoRA leaves out."""
    if form in LORA:
        factors, base = lora_factors(model, erasure, rank, force, step)
        named = (
            peft_tensors(factors) if form == "peft" else kohya_tensors(factors, "text_encoder_2" in model.components)
        )
        meta = _metadata(erasure, max(len(f.down) for f in factors)) if form == "kohya" else {}
        name = PEFT_FILE if form == "peft" else f"{erasure.spec.folder_name}.safetensors"
        write_tensors(new / name, {key: to_blob(tensor) for key, tensor in named.items()}, meta)
        return base, {f"{f.component}.{f.layer}": f.residual for f in factors if f.residual is not None}
    step(0, 1)
    with fused_state(model, erasure, force) as base, silence_libraries():
        if form == "diffusers":
            model.pipe.save_pretrained(new)
        elif form == "component":
            for name in edited_components(erasure):
                saved: Any = model.components[name]
                saved.save_pretrained(new / name)
        else:
            tensors = {key: to_blob(tensor, copy=False) for key, tensor in original_tensors(model.pipe).items()}
            write_tensors(new / f"{erasure.spec.folder_name}.safetensors", tensors, metadata_of(model.pipe))
    step(1, 1)
    return base, {}


@contextmanager
def _shown(progress: Progress, form: str) -> Iterator[Callable[[int, int], None]]:
    """What is told how many of how many parts are done; the first call starts the bar."""
    begun = False

    def step(done: int, total: int) -> None:
        nonlocal begun
        if not begun:
            progress.start(f"export ({form})", total, done)
            begun = True
        progress.update(done, {})

    try:
        yield step
    finally:
        if begun:
            progress.stop()


def _classes(model: PipelineModel, erasure: Erasure) -> tuple[tuple[str, str, str], ...]:
    rows = [(name, type(model.components[name])) for name in edited_components(erasure)]
    return tuple((name, cls.__module__.partition(".")[0], cls.__name__) for name, cls in rows)


def _metadata(erasure: Erasure, rank: int) -> dict[str, str]:
    """What the tools of kohya's format show of a file."""
    names = ", ".join(concept.name for concept in erasure.concepts)
    said = {"ss_network_module": "networks.lora", "ss_network_dim": str(rank), "ss_network_alpha": str(float(rank))}
    return {**said, "efface_run": erasure.spec.hash, "efface_erased": names, "efface_method": erasure.spec.method}


def _manifest(done: Exported, erasure: Erasure, hashes: dict[str, str]) -> dict[str, Any]:
    own = read_manifest(erasure.folder) if erasure.folder else {**erasure.spec.to_dict(), "run": erasure.spec.hash}
    return {
        "schema": SCHEMA, "form": done.form, "versions": package_versions(("efface", "torch", "diffusers", "transformers", "peft")),
        "base": {"distances": done.distances, "forced": done.forced}, "residuals": done.residuals,
        "files": {name: {"bytes": done.files[name], "sha256": digest} for name, digest in hashes.items()}, "erasure": own,
    }  # fmt: skip
