"""``efface compose``: join several erasures to one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .app import app
from .model_options import Base, model_options
from .options import Json, Overwrite
from .output import print_result

Artifacts = Annotated[list[Path], typer.Argument(help="Folders of the erasures, in the order in which they apply.")]


@app.command()
@model_options("model")
def compose(
    artifacts: Artifacts,
    out: Annotated[Path, typer.Option(help="Folder to write the erasure to.")],
    model: Base = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Compose several erasures of one base model to one, without training, and check its effect."""
    from efface import api
    from efface.ops.training.progress import terminal_progress

    erasure = api.compose(artifacts, out=out, model=model, overwrite=overwrite, progress=terminal_progress())
    effect = dict(erasure.effect or {})
    names = [concept.name for concept in erasure.concepts]
    data: dict[str, Any] = {"folder": str(out), "concepts": names, "edits": len(erasure.edits), "effect": effect}
    text = f"{', '.join(names)}: {len(erasure.edits)} edits\n{effect['summary']}\n{out}"
    print_result(data, text, as_json)
