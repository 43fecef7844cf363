"""Export an erasure as files that other programs load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from efface.models.loading import ModelLike, load_model

from .validation import load_erasure, validate_output_dir

if TYPE_CHECKING:
    from efface.exporters.formats import Exported
    from efface.ops.training.progress import Progress


def export(
    artifact: str | Path, out: str | Path, *, form: str = "diffusers", rank: int | None = None, model: ModelLike | None = None,
    force: bool = False, overwrite: bool = False, progress: Progress | None = None,
) -> Exported:  # fmt: skip
    """Export an erasure as files that other programs load, with a model card and the erasure's manifest.

    Args:
        artifact: the erasure's folder.
        out: the folder to write.
        form: ``diffusers`` (the whole edited pipeline), ``component`` (only what was edited), ``peft`` or ``kohya`` (a LoRA), or
            ``single-file`` (the original layout, for ComfyUI and AUTOMATIC1111).
        rank: of the LoRA for tensors that the erasure replaces; a LoRA-like erasure is exported exactly, without a rank.
        model: the base model; by default the one that the erasure was made for.
        force: whether it may be another one.
        overwrite: replace an export that is there.
        progress: where to show progress.

    Returns:
        What was written; ``residuals`` says what a LoRA of a rank leaves out.

    Raises:
        BaseMismatch: the model is not the base that the erasure was made for.
        EffaceError: an edit that the form cannot hold, a damaged artifact, or no place.
    """
    from efface.exporters.formats import EXPORT, check_form

    validate_output_dir(Path(out), overwrite, EXPORT, "export")
    erasure = load_erasure(artifact)
    check_form(erasure, form, rank)
    loaded = load_model(erasure.spec.model if model is None else model, default=erasure.spec.model)
    from efface.exporters.write import export as write

    return write(loaded, erasure, Path(out), form, rank=rank, force=force, overwrite=overwrite, progress=progress)
