"""``efface export``: what it prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from efface.core.serialization import to_jsonable
from efface.models.loading import ModelRef
from efface.ops.training.progress import RichProgress


def run_export(
    artifact: Path, out: Path, form: str, *, rank: int | None, model: ModelRef | None, force: bool, overwrite: bool
) -> tuple[dict[str, Any], str]:
    """Export under a progress bar; returns what was written as plain data and as text."""
    from efface import api

    done = api.export(
        artifact, out, form=form, rank=rank, model=model, force=force, overwrite=overwrite, progress=RichProgress()
    )
    files = {name: done.files[name] for name in done.files}
    data = {
        "folder": str(done.folder),
        "form": done.form,
        "files": files,
        "forced": done.forced,
        "distances": to_jsonable(done.distances),
    }
    lines = [
        *([done.loss] if done.loss else []),
        f"{sum(files.values()) / 1e6:.1f} MB in {len(files)} files",
        str(done.folder),
    ]
    return {**data, "residuals": to_jsonable(done.residuals)}, "\n".join(lines)
