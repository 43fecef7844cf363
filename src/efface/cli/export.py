"""``efface export``: export an erasure for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .app import app
from .model_options import Base, model_options
from .options import AllowBaseMismatch, Artifact, Json, Overwrite
from .output import print_result

if TYPE_CHECKING:
    from efface.exporters.formats import Exported

Format = Annotated[
    str,
    typer.Option(
        help="Format: diffusers (a whole pipeline), transformers (a whole language model), component (the edited "
        "components), peft or kohya (a LoRA), single-file (for ComfyUI and A1111), or pipeline (with code for modules "
        "and gates)."
    ),
]
Rank = Annotated[
    int | None,
    typer.Option(min=1, help="Rank of the LoRA for edits that replace matrices; for the formats peft and kohya."),
]


@app.command()
@model_options("model")
def export(
    artifact: Artifact,
    out: Annotated[Path, typer.Option(help="Folder to write the export to.")],
    format: Format = "diffusers",
    rank: Rank = None,
    model: Base = None,
    allow_base_mismatch: AllowBaseMismatch = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Export an erasure as files that diffusers, peft, ComfyUI or A1111 load."""
    from efface import api
    from efface.core.serialization import to_jsonable
    from efface.ops.training.progress import terminal_progress

    exported = api.export(
        artifact, out, format=format, rank=rank, model=model, allow_base_mismatch=allow_base_mismatch,
        overwrite=overwrite, progress=terminal_progress(),
    )  # fmt: skip
    data = {
        "folder": str(exported.folder),
        "format": exported.format,
        "files": dict(exported.files),
        "base_mismatch": exported.base_mismatch,
        "distances": to_jsonable(exported.distances),
        "residuals": to_jsonable(exported.residuals),
    }
    print_result(data, _as_text(exported), as_json)


def _as_text(exported: Exported) -> str:
    lines = [exported.residual_summary] if exported.residual_summary else []
    megabytes = sum(exported.files.values()) / 1e6
    return "\n".join([*lines, f"{megabytes:.1f} MB in {len(exported.files)} files", str(exported.folder)])
