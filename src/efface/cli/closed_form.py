"""Commands of closed-form erasures: one concept more or one back, and Grams of captions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .app import Artifact, Json, app
from .model_options import POCKET, Base, Model, model_options


@app.command()
@model_options("model")
def revise(
    artifact: Artifact,
    out: Annotated[Path, typer.Option(help="Folder for the new erasure.")],
    add: Annotated[
        list[str] | None, typer.Option(help="A concept to erase, too: a name or a YAML file; repeat for more.")
    ] = None,
    drop: Annotated[list[str] | None, typer.Option(help="A concept to give back; repeat for more.")] = None,
    model: Base = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an erasure that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Erase one concept more, or give one back: a closed-form erasure is solved again from what it keeps of its texts."""
    from .erase import run_revise

    data, line = run_revise(artifact, out=out, add=add or [], drop=drop or [], model=model, overwrite=overwrite)
    print(json.dumps(data) if as_json else f"{line}\n{out}")


@app.command()
@model_options("model")
def gram(
    captions: Annotated[Path, typer.Argument(help="A text file with a caption a line.")],
    out: Annotated[Path, typer.Option(help="Folder for the Gram.")],
    model: Model = POCKET,
    batch: Annotated[int, typer.Option(min=1, help="Captions encoded at once.")] = 64,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a Gram that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Sum up what a model reads of captions that must stay, as closed-form methods take it: one matrix, however many there are."""
    from .erase import run_gram

    data = run_gram(captions, out=out, model=model, batch=batch, overwrite=overwrite)
    print(json.dumps(data) if as_json else f"{data['captions']} captions: {out}")
