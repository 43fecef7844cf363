"""``efface attack`` and ``efface evaluate``: what they print."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efface.core.result import Result, Score
from efface.core.serialization import to_jsonable
from efface.models.loading import ModelRef, name_of
from efface.ops.training.progress import RichProgress

from .erase import parse_settings


def run_evaluation(
    artifact: Path, benchmark: str | None, *, part: str, seed: int | None, limit: int | None, fid: int | None,
    looks: Mapping[str, str | None], model: ModelRef | None, force: bool,
) -> tuple[dict[str, Any], str]:  # fmt: skip
    """Evaluate under a progress bar; returns the result as plain data and as text."""
    from efface import api

    result = api.evaluate(
        artifact, benchmark, part=part, seed=seed, limit=limit, fid=fid, detector=looks["detector"], clip=looks["clip"],
        features=looks["features"], model=model, force=force, progress=RichProgress(),
    )  # fmt: skip
    return as_data(result), as_text(result)


def run_attack(
    artifact: Path, attack: str, *, benchmark: str | None, part: str, replay: Path | None, model: ModelRef | None, settings: list[str],
    seed: int, limit: int | None, detector: str | None, force: bool,
) -> tuple[dict[str, Any], str]:  # fmt: skip
    """Attack under a progress bar; returns what was found as plain data and as text."""
    from efface import api

    made = api.attack(
        artifact, attack, benchmark, part=part, config=parse_settings(settings), replay=replay, seed=seed, limit=limit, model=model,
        detector=detector, force=force, progress=RichProgress(),
    )  # fmt: skip
    assert made.folder is not None  # saved
    result = Result.load(made.folder / "result.json")
    data = {
        "attack": made.attack,
        "folder": str(made.folder),
        "prompts": len(made.prompts),
        "budget": to_jsonable(made.budget),
    }
    lines = [score.summary() for score in result.scores]
    return {**data, "scores": [score.to_dict() for score in result.scores]}, "\n".join([*lines, str(made.folder)])


def run_transfer(
    artifact: Path, to: ModelRef, *, out: Path | None, limit: int | None, force: bool, overwrite: bool
) -> tuple[dict[str, Any], str]:
    """Carry an erasure over under a progress bar, and evaluate it where a benchmark fits; returns plain data and text."""
    from efface import api
    from efface.benchmarks.benchmark import benchmark_for

    target = out or artifact.parent / f"{artifact.name}-on-{Path(name_of(to)).name}"
    moved = api.transfer(artifact, to, out=target, force=force, overwrite=overwrite, progress=RichProgress())
    effect = dict(moved.effect or {})
    data, lines = {"folder": str(target), "transfer": effect["transfer"]}, [str(effect["verdict"])]
    if benchmark_for(moved.spec.model, moved.concepts[0].name) is not None:
        result = api.evaluate(target, model=to, limit=limit, progress=RichProgress())
        data, lines = {**data, **as_data(result)}, [*lines, as_text(result)]
    return data, "\n".join([*lines, str(target)])


def as_data(result: Result) -> dict[str, Any]:
    """Scores and verdict as plain data."""
    verdict = {**result.to_dict()["verdict"], "text": result.summary()}
    return {"scores": [score.to_dict() for score in result.scores], "verdict": verdict, "metadata": dict(result.metadata)}


def as_text(result: Result) -> str:
    """The scores that matter, and the verdict, for a terminal."""
    return "\n".join(
        [*(format_score(score) for score in result.scores if score.metric in SHOWN_METRICS), "", result.summary()]
    )


SHOWN_METRICS = (
    "rer",
    "abstention_rate",
    "retention",
    "asr_pre",
    "asr_post",
    "kid",
    "fid",
    "fid_before",
    "clip_score",
    "h_o",
)


def format_score(score: Score) -> str:
    """One score, aligned."""
    value = "N/A" if score.value is None else f"{score.value:.3f}"
    bounds = "" if score.low is None or score.high is None else f"[{score.low:.3f}, {score.high:.3f}]"
    return f"{score.metric:12} {score.group:10} {value:>8} {bounds:20} n={score.n}"
