"""``efface attack``: search for prompts that bring an erased concept back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .app import app
from .interruption import continues_from_cache, on_interrupt
from .model_options import Base, model_options
from .options import (
    AllowBaseMismatch,
    AllowBenchmarkMismatch,
    Artifact,
    BenchmarkRef,
    Detector,
    Json,
    Seed,
    Settings,
    Split,
)
from .output import print_result
from .parsing import parse_settings

if TYPE_CHECKING:
    from efface.core.attack_set import AttackSet

Replay = Annotated[
    Path | None, typer.Option(help="Folder of a saved attack set; its prompts are evaluated and no search runs.")
]

Control = Annotated[
    Path | None,
    typer.Option(
        help="Artifact that makes the base model one in which the concept never was: an attack that brings back what a "
        "model never knew succeeds only above it."
    ),
]

PromptLimit = Annotated[
    int | None,
    typer.Option(
        "--limit", min=1, help="Maximum number of prompts; all by default. A limited attack proves no resistance."
    ),
]


@app.command()
@model_options("model")
def attack(
    artifact: Artifact,
    attack: Annotated[
        str | None,
        typer.Option(
            help="Name of the attack, by default synonyms, for language models paraphrase; `efface attacks` lists all."
        ),
    ] = None,
    benchmark: BenchmarkRef = None,
    split: Split = "test",
    replay: Replay = None,
    control: Control = None,
    model: Base = None,
    settings: Settings = None,
    seed: Seed = 0,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum number of prompts; all by default. A limited attack proves no resistance."),
    ] = None,
    detector: Detector = None,
    allow_base_mismatch: AllowBaseMismatch = False,
    allow_benchmark_mismatch: AllowBenchmarkMismatch = False,
    as_json: Json = False,
) -> None:
    """Attack an erasure: search for prompts that bring the concept back, and measure their success rate."""
    from efface import api
    from efface.ops.training.progress import terminal_progress

    on_interrupt(continues_from_cache)
    attack_set = api.attack(
        artifact, attack, benchmark, split=split, control=control, config=parse_settings(settings), replay=replay,
        seed=seed, limit=limit, model=model, detector=detector, allow_base_mismatch=allow_base_mismatch,
        allow_benchmark_mismatch=allow_benchmark_mismatch, progress=terminal_progress(),
    )  # fmt: skip
    data, text = _describe(attack_set)
    print_result(data, text, as_json)


def _describe(attack_set: AttackSet) -> tuple[dict[str, Any], str]:
    """Describes a saved attack set and its scores as JSON values and as text."""
    from efface.api.attack_control import without_control_note
    from efface.core.evaluation_evidence import RESULT
    from efface.core.result import Result
    from efface.core.serialization import to_jsonable

    assert attack_set.folder is not None  # `api.attack` saves it
    scores = Result.load(attack_set.folder / RESULT).scores
    data = {
        "attack": attack_set.attack,
        "label": attack_set.folder.name,
        "folder": str(attack_set.folder),
        "prompts": len(attack_set.prompts),
        "budget": to_jsonable(attack_set.budget),
        "scores": [score.to_dict() for score in scores],
    }
    lines = [score.summary() for score in scores]
    if attack_set.limit is not None:
        lines.append(f"limited to {attack_set.limit} prompts: this can break an erasure, but proves no resistance")
    if note := without_control_note(attack_set, [score.metric for score in scores]):
        lines.append(note)
    return data, "\n".join([*lines, str(attack_set.folder)])
