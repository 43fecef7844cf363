"""A benchmark in plain words: its groups with their numbers of images, its detector, and what a good erasure does."""

from __future__ import annotations

from efface.core.concept_names import concept_names

from .benchmark import Benchmark
from .samples import GROUPS

MAX_PHRASES = 6
"""Phrases listed for a group."""
MEANINGS = {
    "name": "the concept's own name",
    "domain": "other phrases for it, which no method receives",
    "near": "its nearest neighbours",
    "other": "unrelated subjects",
}


def describe_benchmark(benchmark: Benchmark) -> str:
    """Describes a benchmark in a paragraph for each question that a reader has."""
    names = concept_names(benchmark.concepts)
    model = "every model that is not bundled" if benchmark.fits_every_model else benchmark.model
    sampler = benchmark.sampler
    splits = list(benchmark.splits)
    return "\n".join(
        (
            f"{benchmark.name} (version {benchmark.version}): {benchmark.description}",
            "",
            f"measures the erasure of {names} from {model}",
            "a good erasure removes the concept from the images of name and domain and changes neither near nor other",
            "",
            f"{'group':8}" + "".join(f"{split:>6}" for split in splits) + "   images of",
            *(_group_line(benchmark, group, splits) for group in GROUPS),
            "",
            f"detector: {benchmark.detector} reports {benchmark.head}; these classes count as the concept: "
            f"{', '.join(benchmark.classes)}",
            *_examples(benchmark),
            f"sampler: {sampler.num_inference_steps} steps, guidance scale {sampler.guidance_scale:g}; "
            f"CLIP score by {benchmark.clip}",
            f"a method receives {benchmark.concept.name!r} with {len(benchmark.concept.synonyms)} synonyms and "
            f"{len(benchmark.concept.retain_prompts)} retain prompts",
        )
    )


def group_phrases(benchmark: Benchmark, group: str, split: str = "test") -> list[str]:
    """Returns the phrases of a group."""
    return [row["phrase"] for row in benchmark.splits[split]["groups"][group]["phrases"]]


def _group_line(benchmark: Benchmark, group: str, splits: list[str]) -> str:
    counts = "".join(f"{len(benchmark.samples(split, groups=(group,))):>6}" for split in splits)
    phrases = group_phrases(benchmark, group, splits[0])
    more = f" and {len(phrases) - MAX_PHRASES} more" if len(phrases) > MAX_PHRASES else ""
    return f"{group:8}{counts}   {MEANINGS[group]}: {', '.join(phrases[:MAX_PHRASES])}{more}"


def _examples(benchmark: Benchmark) -> list[str]:
    """One image that must lose the concept and one that must stay."""
    erased, kept = (benchmark.samples("test", groups=(group,))[0] for group in ("name", "near"))
    expected = " or ".join(kept.expected[benchmark.head]) if benchmark.head in kept.expected else "the same"
    return [
        f"for example, an image of {erased.prompt!r} must not show the concept; the detector must still report "
        f"{expected} for {kept.prompt!r}"
    ]
