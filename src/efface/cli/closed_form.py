"""``efface revise`` and ``efface gram``: revision of closed-form erasures, and Gram matrices of captions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from efface.core.io import user_file_errors

from .app import app
from .model_options import POCKET, Base, Model, model_options
from .options import Artifact, Json, NewErasure, Overwrite
from .output import print_result
from .parsing import ConceptOptions, build_concepts

Added = Annotated[
    list[str] | None, typer.Option("--add", help="Concept to erase as well, a name or YAML file; repeat for more.")
]
Dropped = Annotated[list[str] | None, typer.Option("--drop", help="Concept to restore, a name; repeat for more.")]


@app.command()
@model_options("model")
def revise(
    artifact: Artifact,
    out: NewErasure,
    add: Added = None,
    drop: Dropped = None,
    model: Base = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Add concepts to a closed-form erasure or drop some, without the original prompts."""
    from efface import api
    from efface.ops.training.progress import terminal_progress

    from .show import describe_erasure

    added = build_concepts(add or (), None, ConceptOptions(kind="object")).concepts
    erasure = api.revise(
        artifact, out=out, add=added, drop=drop or (), model=model, overwrite=overwrite, progress=terminal_progress()
    )
    summary = f"{len(erasure.concepts)} concepts: {dict(erasure.effect or {})['summary']}"
    print_result(describe_erasure(out, erasure), f"{summary}\n{out}", as_json)


@app.command()
@model_options("model")
def gram(
    captions: Annotated[Path, typer.Argument(help="Text file with one caption per line.")],
    out: Annotated[Path, typer.Option(help="Folder to write the Gram matrix to.")],
    model: Model = POCKET,
    batch_size: Annotated[int, typer.Option(min=1, help="Number of captions encoded at a time.")] = 64,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Compute the Gram matrix of captions' text states, which closed-form methods use to preserve them."""
    from efface.api.validation import validate_output_dir
    from efface.models.loading import load_model
    from efface.ops.training.progress import terminal_progress

    with user_file_errors(captions, "read"), captions.open(encoding="utf-8") as file:
        total = sum(1 for line in file if line.strip())
    if out.exists() and not overwrite:
        validate_output_dir(out)
    loaded = load_model(model)
    from efface.ops.closed_form import GramAccumulator  # imports torch, so it follows the checks

    with user_file_errors(captions, "read"), captions.open(encoding="utf-8") as file:
        lines = (line.strip() for line in file if line.strip())
        result = GramAccumulator.of_captions(
            loaded, lines, batch_size=batch_size, progress=terminal_progress(), total=total
        )
    result.save(out, overwrite)
    data = {
        "folder": str(out),
        "captions": result.num_captions,
        "states": result.num_states,
        "width": len(result.matrix),
        "encoder": result.encoder,
    }
    print_result(data, f"{result.num_captions} captions\n{out}", as_json)
