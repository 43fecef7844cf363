"""``efface transfer``: use an erasure on another model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from efface.models.model_ref import model_name

from .app import app
from .model_options import Target, model_options
from .options import AllowBaseMismatch, Artifact, ImageLimit, Json, Overwrite
from .output import print_result

if TYPE_CHECKING:
    from rich.text import Text

TransferFolder = Annotated[
    Path | None, typer.Option("--out", help="Folder to write the erasure to; by default ERASURE-on-MODEL beside it.")
]


@app.command()
@model_options("to")
def transfer(
    artifact: Artifact,
    to: Target,
    out: TransferFolder = None,
    limit: ImageLimit = None,
    allow_base_mismatch: AllowBaseMismatch = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Transfer an erasure, without training, to a model that shares the edited components, and evaluate it there."""
    from efface import api
    from efface.benchmarks.benchmark import find_benchmark
    from efface.ops.training.progress import terminal_progress

    target = out or artifact.parent / f"{artifact.name}-on-{Path(model_name(to)).name}"
    erasure = api.transfer(
        artifact,
        to,
        out=target,
        allow_base_mismatch=allow_base_mismatch,
        overwrite=overwrite,
        progress=terminal_progress(),
    )
    effect = dict(erasure.effect or {})
    data: dict[str, Any] = {"folder": str(target), "transfer": effect["transfer"]}
    text: str | Text = str(effect["summary"])
    if find_benchmark(erasure.spec.model, erasure.concepts[0].name) is not None:
        from rich.text import Text

        from .scores import result_as_data, result_as_text

        result = api.evaluate(target, model=to, limit=limit, progress=terminal_progress())
        data |= result_as_data(result)
        text = Text.assemble(f"{text}\n", result_as_text(result, target))
    print_result(data, text + f"\n{target}", as_json)
