"""Attack an erasure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.core.attack_set import AttackSet, AttackTask
from efface.core.erasure import Erasure
from efface.core.manifest import EVIDENCE
from efface.core.registry import ATTACKS
from efface.core.result import Result
from efface.distributed import env
from efface.models.loading import ModelLike

from .validation import (
    build_generator,
    load_artifact_and_benchmark,
)

if TYPE_CHECKING:
    from efface.benchmarks.benchmark import Benchmark
    from efface.ops.training.progress import Progress


def attack(
    artifact: str | Path, attack: str = "synonyms", benchmark: str | Path | None = None, *, part: str = "test",
    config: Mapping[str, Any] | None = None, preset: str | None = None, replay: str | Path | None = None, seed: int = 0,
    limit: int | None = None, detector: str | None = None, model: ModelLike | None = None, force: bool = False,
    progress: Progress | None = None,
) -> AttackSet:  # fmt: skip
    """Attack an erasure; what was found is saved in its evidence, with how often it brought the concept back.

    Args:
        artifact: the erasure's folder.
        attack: a registered attack's name.
        benchmark: where prompts and detector come from; by default the one of the erasure's model and concept.
        part: of the benchmark.
        config: fields of the attack's configuration to set otherwise.
        preset: one of the attack's presets; by default that of the model's name where there is one, else ``paper``.
        replay: the folder of an attack set that was found elsewhere, to try as it is instead of searching anew.
        seed: root seed.
        limit: at most so many prompts.
        detector: what looks at the images in place of the benchmark's own.
        model: the base model; by default the one that the erasure was made for.
        force: whether it may be another one.
        progress: where to show progress.

    Returns:
        The attack set as saved in ``<artifact>/evidence/attacks/<attack>``; ``result.json`` beside it holds ASR_pre and ASR_post.
    """
    if replay is None:
        ATTACKS.validate_config(attack, preset, "", config or {})
    replayed = AttackSet.load(replay) if replay is not None else None
    erasure, found = load_artifact_and_benchmark(artifact, benchmark, part, {"detector": detector})
    image_generator, progress = build_generator(found, erasure, model, force, True), progress if env.is_main() else None
    if replayed is not None:
        return _evaluate_and_save(replayed, Path(artifact), erasure, found, image_generator, progress)
    from efface.distributed.attack_search import search_distributed
    from efface.execution import attack_batch_size, drop_refused, run_attack

    function, overrides = ATTACKS.get(attack), dict(config or {})
    concept = next((c for c in erasure.concepts if c.name == found.concept.name), found.concept)

    def searched(tasks: Sequence[AttackTask]) -> AttackSet:
        return run_attack(
            image_generator.model, erasure, concept, tasks, function, phrases=found.attack_phrases, preset=preset, overrides=overrides, seed=seed,
            force=force, progress=progress,
        )  # fmt: skip

    batch = attack_batch_size(function, preset, image_generator.model.name, overrides)
    with search_distributed(Path(artifact), searched, found.tasks(part, limit=limit), batch) as made:
        return _evaluate_and_save(drop_refused(made), Path(artifact), erasure, found, image_generator, progress)


def _evaluate_and_save(
    made: AttackSet,
    artifact: Path,
    erasure: Erasure,
    benchmark: Benchmark,
    image_generator: Any,
    progress: Progress | None,
) -> AttackSet:
    """Draws what an attack found, and saves both."""
    from efface.benchmarks.runner import run_attack
    from efface.distributed.collectives import sync_errors

    scores, _, _ = run_attack(benchmark, image_generator, erasure, made, progress=progress)
    folder = artifact / EVIDENCE / "attacks" / made.attack
    about = {
        "model": image_generator.model.name,
        "run": erasure.spec.hash,
        "benchmark": {"name": benchmark.name},
        "made": _now(),
    }
    with sync_errors():
        if env.is_main():
            made.save(folder)
            Result(tuple(scores), about).save(folder / "result.json")
    return AttackSet.load(folder)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
