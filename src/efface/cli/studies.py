"""Commands that study: many erasures, or one from within."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .app import Artifact, Json, app
from .model_options import Base, model_options


@app.command()
def ablate(
    method: Annotated[str, typer.Argument(help="The method, such as sage.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder; ablation-METHOD by default. What is there is not made again.")
    ] = None,
    benchmark: Annotated[str, typer.Option(help="Whose concept.")] = "pocket-instrument",
    part: Annotated[str, typer.Option(help="Part of the benchmark: dev or test.")] = "dev",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each variant.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many images a group.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="A variant by name; repeat for more.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A field of the configuration in all variants: name=value.")
    ] = None,
    attack: Annotated[
        list[str] | None, typer.Option(help="An attack to try on every variant; repeat for more.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Take each of a method's decisions otherwise, and say what it costs: a table and a plot with intervals."""
    from efface.ops.training.progress import RichProgress
    from efface.studies.ablation import ablate as study
    from efface.studies.ablation import table

    from .erase import parse_settings

    folder = out or Path(f"ablation-{method}")
    rows = study(
        method, out=folder, benchmark=benchmark, part=part, seeds=seeds, limit=limit, only=only or (), progress=RichProgress(),
        settings=parse_settings(settings or []), attacks=attack or (), say=lambda line: print(line, file=sys.stderr, flush=True),
    )  # fmt: skip
    print((folder / "ablation.json").read_text() if as_json else f"{table(rows)}\n{folder / 'ablation.svg'}")


@app.command()
@model_options("model")
def topology(
    artifact: Artifact,
    benchmark: Annotated[
        str | None, typer.Option(help="A name or YAML file; by default the one that fits the erasure.")
    ] = None,
    part: Annotated[str, typer.Option(help="Part of the benchmark: test or dev.")] = "test",
    limit: Annotated[int, typer.Option(min=8, help="At most so many prompts a group.")] = 96,
    seed: Annotated[int, typer.Option(min=0, help="Of the image and the intervals.")] = 0,
    model: Base = None,
    force: Annotated[bool, typer.Option("--force", help="The base model may be another one: a transfer.")] = False,
    as_json: Json = False,
) -> None:
    """Where the concept, its domain, its neighbours and the attacks' prompts lie in the text encoder's space."""
    from efface.studies.embedding_topology import as_text
    from efface.studies.embedding_topology import topology as look

    places, path = look(artifact, benchmark, part=part, limit=limit, seed=seed, model=model, force=force)
    print(path.with_suffix(".json").read_text() if as_json else f"{as_text(places)}\n{path}")
