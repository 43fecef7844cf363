"""Transfer an erasure to another model that shares the edited components."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from efface.core.erasure import Erasure
from efface.models.loading import load_model
from efface.models.model_ref import ModelLike

from .validation import ErasureLike, load_erasure, validate_output_dir

if TYPE_CHECKING:
    from efface.ops.training.progress import Progress


def transfer(
    artifact: ErasureLike, to: ModelLike, *, out: str | Path, allow_base_mismatch: bool = False,
    overwrite: bool = False, progress: Progress | None = None,
) -> Erasure:  # fmt: skip
    """Transfer an erasure, without training, to another model that shares the edited components.

    Args:
        artifact: The erasure, or its folder.
        to: The other model: anything `efface.load_model` accepts, or a `ModelRef`.
        out: Folder to write the new erasure to.
        allow_base_mismatch: Accept edited components that differ from the erasure's base; the distance is recorded.
        overwrite: Replace an erasure in ``out``.
        progress: Progress display; none by default.

    Returns:
        The erasure as saved in ``out``; ``effect["transfer"]`` holds its origin and the distance of the base models.

    Raises:
        BaseModelMismatchError: The edited components differ in the other model.
        EffaceError: No artifact in the folder, or an invalid output folder.
    """
    validate_output_dir(Path(out), overwrite)
    erasure = load_erasure(artifact)
    loaded = load_model(to)
    from efface.execution import transfer_erasure

    return transfer_erasure(
        loaded, erasure, Path(out), allow_base_mismatch=allow_base_mismatch, overwrite=overwrite, progress=progress
    )
