"""A classifier benchmark in plain words: its groups of images, and what a good erasure does."""

from __future__ import annotations

from typing import Any

from efface.core.serialization import to_jsonable_dict

from .benchmark import ANY_MODEL, NUM_OTHER, ClassifierBenchmark


def classifier_benchmark_fields(benchmark: ClassifierBenchmark) -> dict[str, Any]:
    """Returns the fields of a benchmark's file."""
    fields = to_jsonable_dict(benchmark)
    return {**fields, "concept": {"name": benchmark.concept.name, "kind": benchmark.concept.kind}}


def describe_classifier_benchmark(benchmark: ClassifierBenchmark) -> str:
    """Describes a benchmark in a paragraph for each question that a reader has."""
    model = "every image classifier" if benchmark.model == ANY_MODEL else benchmark.model
    test = f"in {benchmark.test}" if benchmark.test else "of the model's own"
    near = ", ".join(benchmark.near) or "none"
    retrained = "yes" if benchmark.retrained else "no: distances and times have nothing to be compared with"
    return "\n".join(
        (
            f"{benchmark.name} (version {benchmark.version}): {benchmark.description}",
            "",
            f"measures an erasure of {benchmark.concept.name} from {model}, on test images {test}",
            "a good erasure recognises no image of name and domain, and every image of the other groups",
            "",
            "name      test images of the concept (of single images: the images themselves)",
            "domain    the concept's training images",
            f"near      test images of near classes: {near}",
            f"other     at most {NUM_OTHER} test images of all other classes",
            "",
            f"predictions of the retrained classifier: {retrained}",
        )
    )
