"""Attack an erasure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.core.attack_set import AttackSet, AttackTask
from efface.core.erasure import Erasure
from efface.core.manifest import EVIDENCE
from efface.core.registry import ATTACKS
from efface.core.result import Result
from efface.distributed import env
from efface.models.model_ref import ModelLike

from .validation import build_generator, current_time, load_artifact_and_benchmark

if TYPE_CHECKING:
    from efface.benchmarks.benchmark import Benchmark
    from efface.benchmarks.image_generation import ImageGenerator
    from efface.ops.training.progress import Progress


def attack(
    artifact: str | Path, attack: str = "synonyms", benchmark: str | Path | None = None, *, split: str = "test",
    config: Mapping[str, Any] | None = None, preset: str | None = None, replay: str | Path | None = None, seed: int = 0,
    limit: int | None = None, detector: str | None = None, model: ModelLike | None = None,
    allow_base_mismatch: bool = False, progress: Progress | None = None,
) -> AttackSet:  # fmt: skip
    """Search for prompts that bring an erased concept back, and measure how often they do.

    Args:
        artifact: Folder of the erasure.
        attack: Name of a registered attack.
        benchmark: Source of the prompts and the detector; by default the benchmark of the erasure's model and concept.
        split: Split of the benchmark, ``test`` or ``dev``.
        config: Values for fields of the attack's configuration.
        preset: One of the attack's presets; by default the model's own, else ``paper``.
        replay: Folder of an attack set found elsewhere; its prompts are used and no search runs.
        seed: Root seed of the search.
        limit: Maximum number of prompts.
        detector: Detector in place of the benchmark's own.
        model: Base model; by default the one the erasure was made for.
        allow_base_mismatch: Accept a base model other than the erasure's own.
        progress: Progress display; none by default.

    Returns:
        The attack set, saved in ``<artifact>/evidence/attacks/<attack>`` beside its scores ASR_pre and ASR_post.

    Raises:
        EffaceError: Unknown name or setting, corrupt artifact, or another base model.
    """
    if replay is None:
        ATTACKS.validate_config(attack, preset, "", config or {})
    replayed = None if replay is None else AttackSet.load(replay)
    erasure, loaded = load_artifact_and_benchmark(artifact, benchmark, split, {"detector": detector})
    generator = build_generator(loaded, erasure, model, allow_base_mismatch, cache_images=True)
    progress = progress if env.is_main() else None
    run = _AttackRun(Path(artifact), erasure, loaded, generator, allow_base_mismatch, progress)
    if replayed is not None:
        return run.evaluate_and_save(replayed)
    return run.search(attack, loaded.attack_tasks(split, limit=limit), preset, dict(config or {}), seed)


@dataclass(frozen=True)
class _AttackRun:
    """An attack on one erasure with one benchmark: searches for prompts, scores them and saves both."""

    artifact: Path
    erasure: Erasure
    benchmark: Benchmark
    generator: ImageGenerator
    allow_base_mismatch: bool
    progress: Progress | None

    def search(
        self, attack: str, tasks: Sequence[AttackTask], preset: str | None, overrides: dict[str, Any], seed: int
    ) -> AttackSet:
        """Searches for prompts in all processes, then scores and saves the prompts that the content policy allows."""
        from efface.distributed.attack_search import search_distributed
        from efface.execution import attack_batch_size, drop_refused, run_attack

        function = ATTACKS.get(attack)
        target = self.benchmark.concept
        concept = next((c for c in self.erasure.concepts if c.name == target.name), target)

        def search_tasks(tasks: Sequence[AttackTask]) -> AttackSet:
            return run_attack(
                self.generator.model,
                self.erasure,
                concept,
                tasks,
                function,
                phrases=self.benchmark.attack_phrases,
                preset=preset,
                overrides=overrides,
                seed=seed,
                allow_base_mismatch=self.allow_base_mismatch,
                progress=self.progress,
            )

        batch_size = attack_batch_size(function, preset, self.generator.model.name, overrides)
        with search_distributed(self.artifact, search_tasks, tasks, batch_size) as attack_set:
            return self.evaluate_and_save(drop_refused(attack_set))

    def evaluate_and_save(self, attack_set: AttackSet) -> AttackSet:
        """Generates images from the attack's prompts, scores them, and saves the attack set and its result."""
        from efface.benchmarks.attack_evaluation import evaluate_attack
        from efface.distributed.collectives import sync_errors

        evaluation = evaluate_attack(self.benchmark, self.generator, self.erasure, attack_set, progress=self.progress)
        folder = self.artifact / EVIDENCE / "attacks" / attack_set.attack
        metadata = {
            "model": self.generator.model.name,
            "erasure_hash": self.erasure.spec.hash,
            "benchmark": {"name": self.benchmark.name},
            "created": current_time(),
        }
        with sync_errors():
            if env.is_main():
                attack_set.save(folder)
                Result(tuple(evaluation.scores), metadata).save(folder / "result.json")
        return AttackSet.load(folder)
