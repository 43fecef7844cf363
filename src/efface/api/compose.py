"""Compose several erasures to one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from efface.core.composition import compose as join
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.models.model_ref import ModelLike

from .kinds import exporter_of
from .validation import ErasureLike, load_base, load_erasure, validate_output_dir

if TYPE_CHECKING:
    from efface.ops.training.progress import Progress


def compose(
    artifacts: Sequence[ErasureLike], *, out: str | Path | None = None, model: ModelLike | None = None,
    quick_evaluation: bool = True, overwrite: bool = False, progress: Progress | None = None,
) -> Erasure:  # fmt: skip
    """Compose several erasures of one base model to one, without training.

    The edits apply in the order of the erasures. Gated membranes, erasers and guidance rules act beside each other, so
    that their order does not matter; edits of the same weights or states apply one after the other.

    Args:
        artifacts: The erasures, or their folders, at least two for a folder.
        out: Folder to write the erasure to, with an effect check; without a folder it is returned in memory, unchecked.
        model: Base model of the effect check; by default the one the erasures were made for.
        quick_evaluation: Evaluate on a few images at the end.
        overwrite: Replace an erasure in ``out``.
        progress: Progress display; none by default.

    Raises:
        BaseModelMismatchError: Erasures of different base models.
        EffaceError: No erasures, edits that exclude each other, or an invalid output folder.
    """
    if out is not None:
        validate_output_dir(Path(out), overwrite)
        if len(artifacts) < 2:
            raise EffaceError(
                "there is one erasure to compose: give at least two, such as efface compose A/ B/ --out C/"
            )
    erasures = [artifact if isinstance(artifact, Erasure) else load_erasure(artifact) for artifact in artifacts]
    if out is not None and any(exporter_of(erasure) is not None for erasure in erasures):
        raise EffaceError("only erasures of image models take --out: use efface.compose([...]).save(folder) in Python")
    from efface.models.fingerprint import matches

    composed = join(erasures, same_base=matches)
    if out is None:
        return composed
    loaded = load_base(erasures[0], model)
    from efface.execution import save_composed

    return save_composed(loaded, composed, Path(out), quick_evaluation, overwrite, progress)
