"""Evaluate an erasure on a benchmark."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from efface.core.manifest import EVIDENCE
from efface.core.result import Result
from efface.distributed import env
from efface.models.loading import ModelLike

from .validation import (
    build_generator,
    check_attack_concept,
    load_artifact_and_benchmark,
    load_attack_sets,
)

if TYPE_CHECKING:
    from efface.ops.training.progress import Progress


def evaluate(
    artifact: str | Path, benchmark: str | Path | None = None, *, part: str = "test", seed: int | None = None, limit: int | None = None,
    fid: int | None = None, detector: str | None = None, clip: str | None = None, features: str | None = None,
    model: ModelLike | None = None, force: bool = False, keep: bool = True, progress: Progress | None = None,
) -> Result:  # fmt: skip
    """Evaluate an erasure on a benchmark, with every attack set that lies in its evidence; the result is saved there.

    Args:
        artifact: the erasure's folder.
        benchmark: a benchmark's name or YAML file; by default the one of its model and concept.
        part: ``test``, or ``dev`` to choose hyper-parameters.
        seed: the first image's; the part's own by default.
        limit: at most so many images a group.
        fid: so many images of unrelated prompts for an FID, at least 2,000, beside the unedited model's own with other seeds.
        detector: what looks at the images in place of the benchmark's own (`efface.benchmarks.detector_loading`).
        clip: the CLIP score's model likewise.
        features: FID's and KID's network likewise.
        model: the base model; by default the one that the erasure was made for.
        force: whether it may be another one.
        keep: whether images are kept in the cache.
        progress: where to show progress.

    Returns:
        The result, as saved in ``<artifact>/evidence/<benchmark>-<part>-<seed>/result.json``; more in the name where other things look.

    Raises:
        EffaceError: an unknown benchmark, a damaged artifact, another base.
    """
    looks = {"detector": detector, "clip": clip, "features": features}
    erasure, found = load_artifact_and_benchmark(artifact, benchmark, part, looks)
    image_generator, progress = build_generator(found, erasure, model, force, keep), progress if env.is_main() else None
    from efface.benchmarks.fid_evaluation import benchmark_fid
    from efface.benchmarks.runner import run_benchmark
    from efface.distributed.collectives import sync_errors

    attacks = [check_attack_concept(a, found) for a in load_attack_sets(Path(artifact))]
    about = {"model": image_generator.model.name, "run": erasure.spec.hash, "made": _now()}
    more = (
        benchmark_fid(found, image_generator, erasure, images=fid, part=part, progress=progress)
        if fid is not None
        else []
    )
    done = run_benchmark(
        found,
        image_generator,
        erasure,
        part=part,
        seed=seed,
        limit=limit,
        attacks=attacks,
        progress=progress,
        about=about,
    )
    done.result = replace(done.result, scores=(*done.result.scores, *more))
    name = f"{found.name}-{part}-{done.result.metadata['seed']}" + (f"-{limit}" if limit is not None else "")
    name += f"-{found.hash[:8]}" if any(looks.values()) else ""
    with sync_errors():
        if env.is_main():
            done.save(Path(artifact) / EVIDENCE / name)
    return done.result


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
