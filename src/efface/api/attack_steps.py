"""The steps of an attack that `attack` and a sweep share: its tasks, its search, and the scores of its prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from efface.core.attack_set import AttackSet, AttackTask
from efface.core.image_files import IMAGE_FOLDER
from efface.core.result import Result
from efface.core.serialization import to_jsonable_dict

from .evaluation_inputs import EvaluationInputs

if TYPE_CHECKING:
    from efface.benchmarks.benchmark import Benchmark
    from efface.benchmarks.evaluation import Evaluation
    from efface.benchmarks.image_generation import ImageGenerator
    from efface.ops.training.progress import Progress

Search = Callable[[Sequence[AttackTask], "Progress | None"], AttackSet]


def limited_tasks(benchmark: Benchmark, split: str, limit: int | None) -> tuple[Sequence[AttackTask], int | None]:
    """Returns the tasks of an attack, and their number if there are more of them."""
    tasks = benchmark.attack_tasks(split, limit=limit)
    return tasks, len(tasks) if len(tasks) < len(benchmark.attack_tasks(split)) else None


def attack_search(
    inputs: EvaluationInputs, generator: ImageGenerator, function: Any, preset: str | None,
    overrides: Mapping[str, Any], seed: int,
) -> Search:  # fmt: skip
    """Returns the search of an attack for some of the tasks; checks the images of the concept that a user gives it."""
    from efface.benchmarks.image_folder_check import check_concept_images
    from efface.execution import run_attack

    benchmark, erasure = inputs.benchmark, inputs.erasure
    if folder := overrides.get(IMAGE_FOLDER):
        check_concept_images(benchmark, generator.model, folder)
    concept = next((c for c in erasure.concepts if c.name == benchmark.concept.name), benchmark.concept)

    def search(tasks: Sequence[AttackTask], progress: Progress | None) -> AttackSet:
        return run_attack(
            generator.model, erasure, concept, tasks, function, phrases=benchmark.attack_phrases, preset=preset,
            overrides=overrides, seed=seed, progress=progress, allow_base_mismatch=generator.allow_base_mismatch,
        )  # fmt: skip

    return search


def describe_source(benchmark: Benchmark, split: str) -> dict[str, str]:
    """Returns what an attack set states of the benchmark that its prompts started from."""
    return {name: getattr(benchmark, name) for name in ("name", "hash", "prompts_hash")} | {"split": split}


def score_attack(
    inputs: EvaluationInputs, generator: ImageGenerator, attack_set: AttackSet, *, split: str, label: str,
    progress: Progress | None = None, **metadata: Any,
) -> Evaluation:  # fmt: skip
    """Generates images from an attack's prompts and scores them.

    Args:
        inputs: the attacked erasure and the benchmark.
        generator: generates the images.
        attack_set: the attack's prompts.
        split: split of the benchmark, for the result.
        label: group of the scores.
        progress: progress display.
        metadata: further entries of the result's metadata.

    Returns:
        The result, and the images to save.
    """
    from efface.benchmarks.attack_evaluation import evaluate_attack
    from efface.benchmarks.benchmark_mismatch import mark_mismatch
    from efface.benchmarks.evaluation import Evaluation
    from efface.benchmarks.image_scoring import benchmark_metadata

    benchmark, erasure = inputs.benchmark, inputs.erasure
    scored = evaluate_attack(benchmark, generator, erasure, attack_set, progress=progress, label=label)
    own = {"model": generator.model.name, "erasure_hash": erasure.spec.hash}
    about = {**own, **to_jsonable_dict(benchmark_metadata(benchmark, split)), **metadata}
    result = Result(mark_mismatch(scored.scores, inputs.mismatch), about)
    return Evaluation(result, scored.samples, None, scored.detections, saved_images=scored.saved_images)
