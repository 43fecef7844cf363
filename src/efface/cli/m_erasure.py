"""``efface benchmarks m-erasure``: M-ErasureBench's five scenarios."""

from __future__ import annotations

from typing import Annotated

import typer

from .attack import Control, PromptLimit
from .benchmarks import benchmarks
from .model_options import Base, model_options
from .options import Artifact, BenchmarkRef, Json
from .output import print_result

Scenario = Annotated[
    list[str] | None,
    typer.Option(
        help="Scenario to run, repeat for more: text, embeddings_white_box, embeddings_black_box, latents_white_box or "
        "latents_black_box; all by default."
    ),
]


@benchmarks.command(name="m-erasure")
@model_options("model")
def m_erasure(
    artifact: Artifact,
    benchmark: BenchmarkRef = None,
    scenario: Scenario = None,
    limit: PromptLimit = None,
    control: Control = None,
    model: Base = None,
    as_json: Json = False,
) -> None:
    """Measure how often five scenarios reproduce the concept (M-ErasureBench): text, embeddings and latents."""
    from efface.ops.training.progress import terminal_progress
    from efface.studies.m_erasure import m_erasure as measure

    scores = measure(
        artifact, benchmark, limit=limit, control=control, model=model, scenarios=tuple(scenario or ()),
        progress=terminal_progress(),
    )  # fmt: skip
    lines = [score.summary() for score in scores]
    if control is None and any(score.group.startswith("latents") for score in scores):
        lines.append("the rates of latents include what inversion brings back in any model: --control states how much")
    print_result([score.to_dict() for score in scores], "\n".join(lines), as_json)
