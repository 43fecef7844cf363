"""What a benchmark does not ask about where more was erased than its own concept: images of the others, which are meant to be lost."""

from __future__ import annotations

from collections.abc import Sequence

from efface.core.erasure import Erasure
from efface.metrics.detections import Expected

from .benchmark import Benchmark, EvalSample, benchmarks_for


def other_erased_targets(benchmark: Benchmark, erasure: Erasure | None) -> tuple[Expected, ...]:
    """How the shipped benchmarks see the erased concepts that are not this benchmark's own; a concept that none is for has no target."""
    own = {concept.name for concept in benchmark.concepts}
    names = {concept.name for concept in erasure.concepts} - own if erasure else set()
    return (
        tuple(Expected(other.head, other.classes) for other in benchmarks_for(benchmark.model, names)) if names else ()
    )


def exclude_rows(rows: Sequence[EvalSample], others: Sequence[Expected]) -> list[EvalSample]:
    """The rows that none of the other concepts would do for."""
    return [
        row for row in rows if not any(set(row.expected.get(other.head, ())) & set(other.classes) for other in others)
    ]
