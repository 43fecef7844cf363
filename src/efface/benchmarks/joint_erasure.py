"""Exclude samples of other erased concepts, which an erasure of several concepts is meant to lose."""

from __future__ import annotations

from collections.abc import Sequence

from efface.core.erasure import Erasure
from efface.metrics.detections import TargetClasses

from .benchmark import Benchmark, find_benchmarks
from .samples import EvalSample


def other_erased_targets(benchmark: Benchmark, erasure: Erasure | None) -> tuple[TargetClasses, ...]:
    """Target classes of the erased concepts that are not this benchmark's own.

    The classes come from the shipped benchmarks; a concept without a benchmark has none.
    """
    benchmark_concepts = {concept.name for concept in benchmark.concepts}
    others = {concept.name for concept in erasure.concepts} - benchmark_concepts if erasure else set()
    if not others:
        return ()
    return tuple(TargetClasses(other.head, other.classes) for other in find_benchmarks(benchmark.model, others))


def exclude_samples(samples: Sequence[EvalSample], targets: Sequence[TargetClasses]) -> list[EvalSample]:
    """The samples that expect none of the targets' classes."""
    return [
        sample
        for sample in samples
        if not any(set(sample.expected.get(target.head, ())) & set(target.classes) for target in targets)
    ]
