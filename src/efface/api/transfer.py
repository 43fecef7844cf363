"""Move an erasure to another model that shares what it edits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from efface.core.erasure import Erasure
from efface.models.loading import ModelLike, load_model

from .validation import load_erasure, validate_output_dir

if TYPE_CHECKING:
    from efface.ops.training.progress import Progress


def transfer(
    artifact: str | Path, to: ModelLike, *, out: str | Path, force: bool = False, overwrite: bool = False,
    progress: Progress | None = None,
) -> Erasure:  # fmt: skip
    """Put an erasure onto another model that shares what it edits, without training; the result is an erasure for that model.

    Args:
        artifact: the erasure's folder.
        to: whatever `efface.load_model` takes, or a `ModelRef`.
        out: the new artifact's folder.
        force: whether what is edited may differ from what the erasure was made for; the distance is recorded.
        overwrite: replace an erasure that is there.
        progress: where to show progress.

    Returns:
        The erasure as it lies in ``out``; ``effect["transfer"]`` says where it comes from and how far the bases are apart.

    Raises:
        BaseMismatch: what the erasure edits is another one in that model.
        EffaceError: no artifact there, or no place for the new one.
    """
    validate_output_dir(Path(out), overwrite)
    erasure = load_erasure(artifact)
    loaded = load_model(to)
    from efface.execution import transfer_erasure

    return transfer_erasure(loaded, erasure, Path(out), force=force, overwrite=overwrite, progress=progress)
