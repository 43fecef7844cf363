"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Artifact = Annotated[Path, typer.Argument(help="Folder of the erasure.")]
NewErasure = Annotated[Path, typer.Option("--out", help="Folder to write the erasure to.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output of an earlier run in --out.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

BenchmarkRef = Annotated[
    str | None,
    typer.Option(
        "--benchmark",
        help="Benchmark by name or YAML file; by default the one for the erasure's model and concept.",
    ),
]
Split = Annotated[str, typer.Option(help="Split of the benchmark: test to report, dev to choose hyper-parameters.")]
ImageLimit = Annotated[
    int | None, typer.Option("--limit", min=1, help="Maximum number of images per group; all by default.")
]
Detector = Annotated[
    str | None,
    typer.Option(
        "--detector",
        help="Detector instead of the benchmark's: pocket-judge, imagenet:MODEL, zero-shot:CLIP or nudenet:COUNTING; "
        "append @0.3 to set its threshold to 0.3.",
    ),
]
AllowBaseMismatch = Annotated[
    bool,
    typer.Option(
        "--allow-base-mismatch", help="Accept a base model other than the erasure's own; its distance is recorded."
    ),
]
AllowBenchmarkMismatch = Annotated[
    bool,
    typer.Option(
        "--allow-benchmark-mismatch",
        help="Accept a benchmark for another concept or model; every score then states it, and no verdict passes.",
    ),
]

Method = Annotated[str, typer.Option(help="Name of the method; `efface methods` lists all.")]
Preset = Annotated[
    str | None, typer.Option(help="Preset of the method's configuration; by default the model's own, else paper.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Field of the configuration as name=value; repeat for more: --set steps=100."),
]
Seed = Annotated[int, typer.Option(min=0, help="Root seed of all random numbers.")]
