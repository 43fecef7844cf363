"""``efface ablate`` and ``efface topology``: studies of a method and of an erasure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .app import app
from .model_options import Base, model_options
from .options import AllowBaseMismatch, AllowBenchmarkMismatch, Artifact, BenchmarkRef, ImageLimit, Json, Settings
from .parsing import parse_settings

if TYPE_CHECKING:
    from efface.studies.ablation_table import Row

StudyFolder = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Folder of the study, by default ablation-METHOD; its erasures and results are not computed again.",
    ),
]
AblationBenchmark = Annotated[
    str, typer.Option("--benchmark", help="Benchmark by name or YAML file; choose one of a dev concept.")
]
AblationSplit = Annotated[str, typer.Option("--split", help="Split of the benchmark: dev or test.")]
Seeds = Annotated[int, typer.Option(min=1, help="Number of erasures per variant, with the seeds 0, 1, ...")]
Variants = Annotated[
    list[str] | None, typer.Option("--only", help="Variant to run, by name; repeat for more; all by default.")
]
Attacks = Annotated[list[str] | None, typer.Option("--attack", help="Attack on every variant; repeat for more.")]
PromptLimit = Annotated[int, typer.Option("--limit", min=8, help="Maximum number of prompts per group.")]
TopologySeed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the plot and of the intervals.")]


@app.command()
def ablate(
    method: Annotated[str, typer.Argument(help="Name of the method, such as sage.")],
    out: StudyFolder = None,
    benchmark: AblationBenchmark = "pocket-instrument",
    split: AblationSplit = "dev",
    seeds: Seeds = 1,
    limit: ImageLimit = None,
    only: Variants = None,
    settings: Settings = None,
    attack: Attacks = None,
    as_json: Json = False,
) -> None:
    """Run a method's ablations and write a table and a plot."""
    from efface.ops.training.progress import terminal_progress
    from efface.studies.ablation import ablate as run_ablation
    from efface.studies.ablation_table import format_row, table

    def print_row(row: Row) -> None:
        print(format_row(row), file=sys.stderr, flush=True)

    folder = out or Path(f"ablation-{method}")
    rows = run_ablation(
        method, out=folder, benchmark=benchmark, split=split, seeds=seeds, limit=limit, only=only or (),
        settings=parse_settings(settings), attacks=attack or (), progress=terminal_progress(), on_row=print_row,
    )  # fmt: skip
    print((folder / "ablation.json").read_text() if as_json else f"{table(rows)}\n{folder / 'ablation.svg'}")


@app.command()
@model_options("model")
def topology(
    artifact: Artifact,
    benchmark: BenchmarkRef = None,
    split: Annotated[str, typer.Option(help="Split of the benchmark: test or dev.")] = "test",
    limit: PromptLimit = 96,
    seed: TopologySeed = 0,
    model: Base = None,
    allow_base_mismatch: AllowBaseMismatch = False,
    allow_benchmark_mismatch: AllowBenchmarkMismatch = False,
    as_json: Json = False,
) -> None:
    """Measure and plot the positions of concept, neighbour and attack prompts in the text encoder's space."""
    from efface.studies.embedding_topology import format_table
    from efface.studies.embedding_topology import topology as measure_topology

    positions, path = measure_topology(
        artifact,
        benchmark,
        split=split,
        limit=limit,
        seed=seed,
        model=model,
        allow_base_mismatch=allow_base_mismatch,
        allow_benchmark_mismatch=allow_benchmark_mismatch,
    )
    print(path.with_suffix(".json").read_text() if as_json else f"{format_table(positions)}\n{path}")
