"""Export an erasure as files that other programs load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from efface.models.model_ref import ModelLike

from .kinds import exporter_of
from .validation import ErasureLike, load_base, load_erasure, validate_output_dir

if TYPE_CHECKING:
    from efface.exporters.formats import Exported
    from efface.ops.training.progress import Progress


def export(
    artifact: ErasureLike, out: str | Path, *, format: str = "diffusers", rank: int | None = None,
    model: ModelLike | None = None, allow_base_mismatch: bool = False, overwrite: bool = False,
    progress: Progress | None = None,
) -> Exported:  # fmt: skip
    """Export an erasure as files that other programs load, with a model card and the erasure's manifest.

    Args:
        artifact: The erasure, or its folder.
        out: Folder to write.
        format: ``diffusers`` (the whole edited pipeline), ``component`` (the edited components), ``peft`` or ``kohya``
            (a LoRA), ``single-file`` (the original layout), ``pipeline`` (a diffusers pipeline with code for modules,
            gates and guidance), or for a language model or a classifier ``transformers``.
        rank: Rank of the LoRA that approximates replaced matrices. A low-rank erasure is exported exactly: no rank.
        model: Base model; by default the one the erasure was made for.
        allow_base_mismatch: Accept a base model other than the erasure's own.
        overwrite: Replace an export in ``out``.
        progress: Progress display; none by default.

    Returns:
        The files written; ``residuals`` holds the relative error of a LoRA approximation, by tensor.

    Raises:
        BaseModelMismatchError: The model is not the base the erasure was made for.
        EffaceError: An edit the format cannot hold, a corrupt artifact, or an invalid output folder.
    """
    from efface.exporters.formats import EXPORT_MANIFEST, check_format

    validate_output_dir(Path(out), overwrite, EXPORT_MANIFEST, "export")
    erasure = load_erasure(artifact)
    if exporter := exporter_of(erasure):
        return exporter(erasure, Path(out), format, model, allow_base_mismatch, overwrite)
    check_format(erasure, format, rank)
    loaded = load_base(erasure, model)
    from efface.exporters.write import write_export

    return write_export(
        loaded, erasure, Path(out), format, rank=rank, allow_base_mismatch=allow_base_mismatch, overwrite=overwrite,
        progress=progress,
    )  # fmt: skip
