"""Does a benchmark measure what an erasure erases, on its model, with a detector that knows the model's images?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from efface.core.concept_names import concept_names
from efface.core.erasure import Erasure
from efface.core.score import Score
from efface.core.text_fields import fold_case
from efface.core.verdict import BENCHMARK_MISMATCH
from efface.models.model_ref import image_world

from .benchmark import Benchmark
from .detector_names import POCKET_CLIP, POCKET_JUDGE

POCKET = "pocket"


def describe_mismatch(benchmark: Benchmark, erasure: Erasure, model: str) -> str:
    """Describes how a benchmark differs from an erasure, for every score to state; empty if it fits.

    Args:
        benchmark: the benchmark.
        erasure: the erasure to measure.
        model: name of the model that generates the images.
    """
    erased = {fold_case(concept.name) for concept in erasure.concepts}
    unknown = [concept.name for concept in benchmark.concepts if fold_case(concept.name) not in erased]
    base_model = image_world(model)
    texts = []
    if unknown:
        names = concept_names(erasure.concepts)
        texts.append(f"measured on {unknown[0]!r}, and the erasure is of {names}")
    if not benchmark.is_for(model):
        benchmark_model = "models that are not bundled" if benchmark.fits_every_model else benchmark.model
        texts.append(f"measured by a benchmark for {benchmark_model}, and the model is {model}")
    elif base_model != POCKET and (judge := _pocket_judge(benchmark)):
        texts.append(f"judged by {judge}, which knows images of {POCKET} only, and the model is {model}")
    return "; ".join(texts)


def mark_mismatch(scores: Iterable[Score], mismatch: str) -> tuple[Score, ...]:
    """Returns the scores with the mismatch in their provenance; unchanged if it is empty."""
    if not mismatch:
        return tuple(scores)
    return tuple(
        replace(
            score,
            provenance=replace(score.provenance, extra={**score.provenance.extra, BENCHMARK_MISMATCH: mismatch}),
        )
        for score in scores
    )


def _pocket_judge(benchmark: Benchmark) -> str:
    """The benchmark's detector or CLIP model that was trained on pocket's images only; empty if there is none."""
    detector = benchmark.detector.partition("@")[0]
    if detector == POCKET_JUDGE or detector.endswith(f":{POCKET_CLIP}"):
        return benchmark.detector
    return benchmark.clip if benchmark.clip == POCKET_CLIP else ""
