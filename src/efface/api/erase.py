"""Erase concepts from a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.registry import METHODS
from efface.models.loading import ModelLike, load_model

from .validation import (
    add_default_retain_sets,
    validate_erase,
)

if TYPE_CHECKING:
    from efface.ops.training.progress import Progress


def erase(
    concepts: str | Concept | Sequence[str | Concept], *, out: str | Path, model: ModelLike = "pocket", method: str = "esd",
    preset: str | None = None, config: Mapping[str, Any] | None = None, seed: int = 0, resume: bool = False, overwrite: bool = False,
    progress: Progress | None = None,
) -> Erasure:  # fmt: skip
    """Erase concepts from a model and save the erasure; the model itself stays as it is.

    Args:
        concepts: what to erase: names or :class:`Concept`, one or several. On an embedded model, a concept without a retain set is given
            the model's own, without the prompts that mention the concept.
        out: the artifact's folder.
        model: whatever `efface.load_model` takes, or a `ModelRef`, which says how to load it, too.
        method: a registered method's name.
        preset: one of the method's presets; by default that of the model's name where there is one, else ``paper``.
        config: fields of the method's configuration to set otherwise.
        seed: root seed.
        resume: go on from the checkpoints of a run that was interrupted.
        overwrite: replace an erasure that is there.
        progress: where to show progress; nowhere by default.

    Returns:
        The erasure as it lies in ``out``, with the effect check in ``effect``.

    Raises:
        EffaceError: whatever a user can cure, before any work where that can be known.
    """
    given = [concepts] if isinstance(concepts, str | Concept) else list(concepts)
    wanted = tuple(Concept.coerce(c) for c in given)
    validate_erase(wanted, out=Path(out), model=model, method=method, preset=preset, config=config, overwrite=overwrite)
    loaded = load_model(model)
    from efface.execution import run_method  # imports torch: after the checks

    wanted = add_default_retain_sets(wanted, loaded.name)
    return run_method(
        loaded, wanted, Path(out), METHODS.get(method), preset=preset, overrides=dict(config or {}), seed=seed, resume=resume,
        overwrite=overwrite, progress=progress,
    )  # fmt: skip
