"""``efface audit``: an edited checkpoint against its base model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from efface.models.model_ref import ModelRef

from .app import app
from .model_options import as_model_ref, model_options
from .options import BenchmarkRef, Json
from .output import print_result

if TYPE_CHECKING:
    from efface.studies.tensor_changes import TensorChange

Edited = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="Edited checkpoint: a folder in diffusers layout, a single file or a LoRA."),
]
BaseModel = Annotated[
    ModelRef,
    typer.Option("--base", parser=as_model_ref, metavar="TEXT", help="Model that the checkpoint was made from."),
]
ConceptName = Annotated[str, typer.Option("--concept", help="Name of the concept that the checkpoint should lack.")]
AuditOut = Annotated[Path, typer.Option("--out", help="Folder to write: the changes as an erasure, with all evidence.")]
Attacks = Annotated[
    list[str] | None,
    typer.Option("--attack", help="Attack to run; repeat for more; by default synonyms and inside_out."),
]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="Maximum number of prompts of an attack, and of images per group; all by default."),
]
SHOWN = 8
"""Number of changed tensors that the command prints."""


@app.command()
@model_options("base")
def audit(
    model: Edited,
    base: BaseModel,
    concept: ConceptName,
    out: AuditOut = Path("audit"),
    benchmark: BenchmarkRef = None,
    attack: Attacks = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Audit an edited checkpoint: which tensors changed, whether the concept is gone, and whether attacks find it."""
    from efface.ops.training.progress import terminal_progress
    from efface.studies.audit import audit as run_audit

    done = run_audit(
        model, base, concept, out=out, benchmark=benchmark, attacks=attack or ("synonyms", "inside_out"), limit=limit,
        progress=terminal_progress(), on_changes=_print_changes,
    )  # fmt: skip
    data: dict[str, Any] = {"folder": str(done.folder), "report": str(done.report), "verdict": done.result.summary()}
    data |= {"changes": [vars(row) for row in done.changes], "scores": [s.to_dict() for s in done.result.scores]}
    print_result(data, f"{done.result.summary()}\n{done.report}", as_json)


def _print_changes(changes: list[TensorChange]) -> None:
    """Prints how many tensors of each component changed, and the largest changes."""
    components = dict.fromkeys(change.component for change in changes)
    counts = (f"{sum(change.component == name for change in changes)} in {name}" for name in components)
    lines = [f"{len(changes)} tensors changed: {', '.join(counts)}"]
    for change in changes[:SHOWN]:
        rank = "" if change.rank is None else f", rank {change.rank}"
        lines.append(f"  {change.component} {change.name}: {change.relative_norm:.1%} of its norm{rank}")
    print("\n".join(lines), file=sys.stderr, flush=True)
