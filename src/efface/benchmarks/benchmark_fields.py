"""A benchmark as the fields of its file."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from efface.core.concept import Concept

from .benchmark import Benchmark


def benchmark_fields(benchmark: Benchmark) -> dict[str, Any]:
    """Returns the fields of a benchmark's file; `Benchmark.from_dict` gives an equal benchmark."""
    default = Concept(benchmark.concept.name, kind=benchmark.concept.kind)
    concept = {
        key: value
        for key, value in benchmark.concept.to_dict().items()
        if key in ("name", "kind") or value != default.to_dict()[key]
    }
    return {
        "name": benchmark.name,
        "version": benchmark.version,
        "description": benchmark.description,
        "model": benchmark.model,
        "detector": benchmark.detector,
        "clip": benchmark.clip,
        "sampler": asdict(benchmark.sampler),
        "concept": concept,
        "target": {"head": benchmark.head, "classes": list(benchmark.classes)},
        "attack_phrases": list(benchmark.attack_phrases),
        "splits": dict(benchmark.splits),
        **({"joint_concepts": list(benchmark.joint_concepts)} if benchmark.joint_concepts else {}),
        **({"features": benchmark.features} if benchmark.features else {}),
    }
