"""Evaluate an erasure on a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from efface.core.attack_set import AttackSet
from efface.core.erasure import Erasure
from efface.core.manifest import EVIDENCE
from efface.core.result import Result
from efface.distributed import env
from efface.models.model_ref import ModelLike

from .validation import (
    build_generator,
    check_attack_concept,
    current_time,
    load_artifact_and_benchmark,
    load_attack_sets,
)

if TYPE_CHECKING:
    from efface.benchmarks.benchmark import Benchmark
    from efface.benchmarks.evaluation import Evaluation
    from efface.benchmarks.image_generation import ImageGenerator
    from efface.ops.training.progress import Progress


def evaluate(
    artifact: str | Path, benchmark: str | Path | None = None, *, split: str = "test", seed: int | None = None,
    limit: int | None = None, fid: int | None = None, detector: str | None = None, clip: str | None = None,
    features: str | None = None, model: ModelLike | None = None, allow_base_mismatch: bool = False,
    cache_images: bool = True, progress: Progress | None = None,
) -> Result:  # fmt: skip
    """Evaluate an erasure and its saved attacks on a benchmark, and save the result in the erasure's evidence.

    Args:
        artifact: Folder of the erasure.
        benchmark: Name or YAML file of a benchmark; by default the one of the erasure's model and concept.
        split: ``test``, or ``dev`` to choose hyper-parameters.
        seed: Seed of the first image; by default the split's own.
        limit: Maximum number of images per group.
        fid: Number of images of unrelated prompts for an FID, at least 2,000; the unedited model's FID is added.
        detector: Detector in place of the benchmark's own (see `efface.benchmarks.detector_names`).
        clip: Model of the CLIP score in place of the benchmark's own.
        features: Feature network of FID and KID in place of the benchmark's own.
        model: Base model; by default the one the erasure was made for.
        allow_base_mismatch: Accept a base model other than the erasure's own.
        cache_images: Keep generated images in the image cache.
        progress: Progress display; none by default.

    Returns:
        The result, as saved in ``<artifact>/evidence/<benchmark>-<split>-<seed>/result.json``. With another detector,
        CLIP model or feature network, the folder's name ends with the benchmark's hash.

    Raises:
        EffaceError: Unknown benchmark, corrupt artifact, or another base model.
    """
    detectors = {"detector": detector, "clip": clip, "features": features}
    erasure, loaded = load_artifact_and_benchmark(artifact, benchmark, split, detectors)
    generator = build_generator(loaded, erasure, model, allow_base_mismatch, cache_images)
    attacks = [check_attack_concept(attack_set, loaded) for attack_set in load_attack_sets(Path(artifact))]
    evaluation = _run(loaded, generator, erasure, attacks, split, seed, limit, fid, progress)
    name = _folder_name(loaded, split, evaluation.result, limit, custom_detectors=any(detectors.values()))
    return _save(evaluation, Path(artifact) / EVIDENCE / name)


def _run(
    benchmark: Benchmark, generator: ImageGenerator, erasure: Erasure, attacks: Sequence[AttackSet], split: str,
    seed: int | None, limit: int | None, fid: int | None, progress: Progress | None,
) -> Evaluation:  # fmt: skip
    """Runs the benchmark and, with ``fid`` images, the FID, whose scores are appended to the result."""
    from efface.benchmarks.fid_evaluation import benchmark_fid
    from efface.benchmarks.runner import run_benchmark

    progress = progress if env.is_main() else None
    metadata = {"model": generator.model.name, "erasure_hash": erasure.spec.hash, "created": current_time()}
    fid_scores = []
    if fid is not None:
        fid_scores = benchmark_fid(benchmark, generator, erasure, num_images=fid, split=split, progress=progress)
    evaluation = run_benchmark(
        benchmark, generator, erasure, split=split, seed=seed, limit=limit, attacks=attacks, progress=progress,
        metadata=metadata,
    )  # fmt: skip
    evaluation.result = replace(evaluation.result, scores=(*evaluation.result.scores, *fid_scores))
    return evaluation


def _folder_name(benchmark: Benchmark, split: str, result: Result, limit: int | None, custom_detectors: bool) -> str:
    """Name of the evaluation's folder: benchmark, split and seed, then limit and benchmark hash where they apply."""
    parts = [benchmark.name, split, str(result.metadata["seed"])]
    if limit is not None:
        parts.append(str(limit))
    if custom_detectors:
        parts.append(benchmark.hash[:8])
    return "-".join(parts)


def _save(evaluation: Evaluation, folder: Path) -> Result:
    """Saves an evaluation from the main process and returns its result."""
    from efface.distributed.collectives import sync_errors

    with sync_errors():
        if env.is_main():
            evaluation.save(folder)
    return evaluation.result
