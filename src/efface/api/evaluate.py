"""Evaluate an erasure on a benchmark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.core.evaluation_evidence import attack_results_of, with_attacks
from efface.core.manifest import EVIDENCE
from efface.core.output_files import free_folder
from efface.core.result import OTHER_CONCEPTS, Result
from efface.core.text_fields import fold_case
from efface.distributed import env
from efface.models.model_ref import ModelLike

from .evaluation_inputs import (
    EvaluationInputs,
    build_generator,
    current_time,
    load_attack_sets,
    load_evaluation_inputs,
    same_result,
)
from .kinds import evaluator_of
from .validation import ErasureLike, artifact_folder

if TYPE_CHECKING:
    from efface.benchmarks.benchmark import Benchmark
    from efface.benchmarks.evaluation import Evaluation
    from efface.benchmarks.image_generation import ImageGenerator
    from efface.ops.training.progress import Progress


def evaluate(
    artifact: ErasureLike, benchmark: str | Path | None = None, *, split: str = "test", seed: int | None = None,
    limit: int | None = None, fid: int | None = None, detector: str | None = None, clip: str | None = None,
    features: str | None = None, model: ModelLike | None = None, allow_base_mismatch: bool = False,
    allow_benchmark_mismatch: bool = False, cache_images: bool = True, progress: Progress | None = None,
) -> Result:  # fmt: skip
    """Evaluate an erasure and its saved attacks on a benchmark, and save the result in the erasure's evidence.

    Args:
        artifact: The erasure, or its folder.
        benchmark: Name or YAML file of a benchmark; by default the one of the erasure's model and concept.
        split: ``test``, or ``dev`` to choose hyper-parameters.
        seed: Seed of the first image; by default the split's own.
        limit: Maximum number of images per group.
        fid: Number of images of unrelated prompts for an FID, at least 2,000; the unedited model's FID is added.
        detector: Detector in place of the benchmark's own (see `efface.benchmarks.detector_names`).
        clip: Model of the CLIP score in place of the benchmark's own.
        features: Feature network of FID and KID in place of the benchmark's own.
        model: Base model; by default the erasure's own.
        allow_base_mismatch: Accept a base model other than the erasure's own.
        allow_benchmark_mismatch: Accept a benchmark for another concept or model; every score then states it.
        cache_images: Keep generated images in the image cache.
        progress: Progress display; none by default.

    Returns:
        The result, as saved in ``<artifact>/evidence/<benchmark>-<split>-<seed>/result.json``. The folder's name also
        holds the limit and, with another detector, CLIP model or feature network, the benchmark's hash. An existing
        result is never replaced: a result with other scores is saved under the name with ``-2``.

    Raises:
        EffaceError: Unknown benchmark, corrupt artifact, a benchmark that does not fit, or another base model.
    """
    detectors = {"detector": detector, "clip": clip, "features": features}
    if evaluator := evaluator_of(artifact, **detectors, fid=fid, seed=seed, split=None if split == "test" else split):
        return evaluator(artifact, benchmark, limit, model, allow_base_mismatch, progress)
    allow = allow_benchmark_mismatch
    inputs = load_evaluation_inputs(artifact, benchmark, split, detectors=detectors, allow_mismatch=allow)
    generator = build_generator(inputs.benchmark, inputs.erasure, model, allow_base_mismatch, cache_images)
    options = (split, seed, limit, fid, detector, progress, any(detectors.values()))
    return _evaluate_and_save(inputs.checked_for(generator), generator, artifact_folder(artifact), *options)


def _evaluate_and_save(
    inputs: EvaluationInputs, generator: ImageGenerator, folder: Path, split: str, seed: int | None, limit: int | None,
    fid: int | None, detector: str | None, progress: Progress | None, custom_detectors: bool,
) -> Result:  # fmt: skip
    """Runs the benchmark and saves its result; returns it with the scores of the erasure's attacks."""
    evaluation = _run(inputs, generator, folder, split, seed, limit, fid, detector, progress)
    name = _folder_name(inputs.benchmark, split, evaluation.result, limit, custom_detectors)
    return with_attacks(_save(evaluation, folder / EVIDENCE, name), attack_results_of(folder, inputs.erasure.spec.hash))


def _run(
    inputs: EvaluationInputs, generator: ImageGenerator, artifact: Path, split: str,
    seed: int | None, limit: int | None, fid: int | None, detector: str | None, progress: Progress | None,
) -> Evaluation:  # fmt: skip
    """Runs the benchmark and, with ``fid`` images, the FID, whose scores are appended to the result."""
    from efface.benchmarks.benchmark_mismatch import mark_mismatch
    from efface.benchmarks.fid_evaluation import benchmark_fid
    from efface.benchmarks.runner import run_benchmark

    progress = progress if env.is_main() else None
    benchmark, erasure = inputs.benchmark, inputs.erasure
    metadata: dict[str, Any] = {"model": generator.model.name, "erasure_hash": erasure.spec.hash}
    metadata |= {"created": current_time()}
    metadata |= {"replaced_detector": detector} if detector else {}
    metadata |= {"base_mismatch": True} if generator.has_other_base else {}
    metadata |= {"instead_of_benchmark": inputs.replaced_benchmark} if inputs.replaced_benchmark else {}
    metadata |= {OTHER_CONCEPTS: others} if (others := _other_concepts(inputs)) else {}
    fid_scores = []
    if fid is not None:
        fid_scores = benchmark_fid(benchmark, generator, erasure, num_images=fid, split=split, progress=progress)
    attacks = load_attack_sets(artifact, benchmark)
    evaluation = run_benchmark(
        benchmark, generator, erasure, split=split, seed=seed, limit=limit, attacks=attacks, progress=progress,
        metadata=metadata,
    )  # fmt: skip
    scores = mark_mismatch((*evaluation.result.scores, *fid_scores), inputs.mismatch)
    evaluation.result = replace(evaluation.result, scores=scores)
    return evaluation


def _other_concepts(inputs: EvaluationInputs) -> list[str]:
    """The erased concepts that the benchmark does not measure."""
    measured = {fold_case(concept.name) for concept in inputs.benchmark.concepts}
    return [concept.name for concept in inputs.erasure.concepts if fold_case(concept.name) not in measured]


def _folder_name(benchmark: Benchmark, split: str, result: Result, limit: int | None, custom_detectors: bool) -> str:
    """Name of the evaluation's folder: benchmark, split and seed, then limit and benchmark hash where they apply."""
    parts = [benchmark.name, split, str(result.metadata["seed"])]
    if limit is not None:
        parts.append(str(limit))
    if custom_detectors:
        parts.append(benchmark.hash[:8])
    return "-".join(parts)


def _save(evaluation: Evaluation, evidence: Path, name: str) -> Result:
    """Saves an evaluation from the main process, beside those with other scores; returns its result."""
    from efface.distributed.collectives import sync_errors

    with sync_errors():
        if env.is_main():
            folder = free_folder(evidence, name, lambda path: same_result(path, evaluation.result))
            if not folder.exists():
                evaluation.save(folder)
    return evaluation.result
