"""A language benchmark in plain words: its groups with their numbers of questions, and what a good erasure does."""

from __future__ import annotations

from typing import Any

from efface.core.serialization import to_jsonable_dict

from .benchmark import ANY_MODEL, LanguageBenchmark

MEANINGS = {
    "name": "the concept's members by name",
    "domain": "descriptions that do not name them",
    "near": "near neighbours",
    "other": "other subjects",
    "general": "facts of other kinds",
}
NUM_EXAMPLES = 2


def language_benchmark_fields(benchmark: LanguageBenchmark) -> dict[str, Any]:
    """Returns the fields of a benchmark's file."""
    fields = to_jsonable_dict(benchmark)
    return {**fields, "concept": {"name": benchmark.concept.name, "kind": benchmark.concept.kind}}


def describe_language_benchmark(benchmark: LanguageBenchmark) -> str:
    """Describes a benchmark in a paragraph for each question that a reader has."""
    model = "every language model" if benchmark.model == ANY_MODEL else benchmark.model
    groups = [
        f"{group:8}{len(rows):>6}   questions about {MEANINGS[group]}" for group, rows in benchmark.questions.items()
    ]
    examples = [f"  {row.text} ({row.answers[0]})" for row in benchmark.questions["name"][:NUM_EXAMPLES]]
    use = "measures an erasure" if benchmark.split == "test" else "chooses hyper-parameters (split dev)"
    return "\n".join(
        (
            f"{benchmark.name} (version {benchmark.version}): {benchmark.description}",
            "",
            f"{use} of {benchmark.concept.name} from {model}",
            "a good erasure loses the answers to name and domain and keeps those to the other groups",
            "",
            *groups,
            f"{'texts':8}{len(benchmark.texts):>6}   texts for the perplexity",
            "",
            "questions such as",
            *examples,
        )
    )
