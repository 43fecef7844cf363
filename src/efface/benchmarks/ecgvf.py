"""ECGVF: benchmarks of prompt pairs that images verified (from EAR, arXiv 2506.20151).

Every pair has a target prompt, which shows the concept, and a replacement prompt, which shows something else in the
same context. The model generates an image of both, and a detector drops a pair whose target image does not show the
concept or whose replacement image shows it. The pairs come from an existing benchmark's templates, or from a language
model behind an endpoint (`efface.benchmarks.pair_endpoint`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from efface.core.attack_set import insert_phrase
from efface.core.errors import EffaceError
from efface.core.policy import check_prompts
from efface.metrics.detections import Detections, TargetClasses
from efface.models.editable import EditableModel
from efface.ops.training.progress import Progress, Silent

from .benchmark import Benchmark
from .collectors import add_detections, check_image_size, to_eval_prompt
from .detector_loading import load_detector
from .image_cache import ImageCache
from .image_generation import ImageGenerator, read_images
from .samples import EvalSample

TARGET, REPLACEMENT = "name", "near"
"""Groups of a benchmark that hold the target and the replacement prompts."""
MIN_PAIRS = 2
VERIFIED_SEED = 40000
"""Seed of the first image that verifies a pair; no split of a shipped benchmark uses it."""


@dataclass(frozen=True)
class PromptPair:
    """A pair of prompts with the same context.

    Attributes:
        target: prompt that shows the concept.
        replacement: prompt that shows something else.
        expected: by head of the detector, what the replacement shows.
    """

    target: str
    replacement: str
    expected: Mapping[str, Any]


@dataclass(frozen=True)
class VerifiedPairs:
    """The pairs that remain.

    Attributes:
        kept: the pairs.
        missing_target: number of pairs dropped because the target image does not show the concept.
        showing_replacement: number of pairs dropped because the replacement image shows it.
    """

    kept: tuple[PromptPair, ...]
    missing_target: int
    showing_replacement: int


def template_pairs(benchmark: Benchmark, split: str, count: int) -> tuple[PromptPair, ...]:
    """Pairs the prompts of the concept's name with the neighbours in the same templates.

    Args:
        benchmark: the benchmark.
        split: one of its splits.
        count: maximum number of pairs.
    """
    neighbours = benchmark.splits[split]["groups"][REPLACEMENT]["phrases"]
    pairs: dict[str, PromptPair] = {}
    for i, sample in enumerate(benchmark.samples(split, groups=(TARGET,))):
        neighbour = neighbours[i % len(neighbours)]
        replacement = insert_phrase(sample.template, neighbour["phrase"])
        pairs.setdefault(sample.prompt, PromptPair(sample.prompt, replacement, neighbour["expected"]))
    return tuple(pairs.values())[:count]


def verify_pairs(
    model: EditableModel, benchmark: Benchmark, pairs: Sequence[PromptPair], seed: int, progress: Progress | None = None
) -> VerifiedPairs:
    """Generates both images of every pair and keeps the pairs whose images show what they should.

    Args:
        model: the model without an erasure.
        benchmark: names detector, head, classes and sampler.
        pairs: the pairs.
        seed: seed of the first pair; both images of a pair have the same one.
        progress: progress display.

    Raises:
        EffaceError: a prompt that the content policy refuses, or images of a size that the detector does not accept.
    """
    check_prompts([prompt for pair in pairs for prompt in (pair.target, pair.replacement)])
    check_image_size(model, benchmark)
    samples = [
        EvalSample(group, prompt, prompt, seed + i, {})
        for i, pair in enumerate(pairs)
        for group, prompt in ((TARGET, pair.target), (REPLACEMENT, pair.replacement))
    ]
    shown = _shown(model, benchmark, samples, progress or Silent())
    kept, missing, showing = [], 0, 0
    for i, pair in enumerate(pairs):
        has_target, replacement_shows = shown[2 * i], shown[2 * i + 1]
        missing += not has_target
        showing += has_target and replacement_shows
        if has_target and not replacement_shows:
            kept.append(pair)
    return VerifiedPairs(tuple(kept), missing, showing)


def _shown(model: EditableModel, benchmark: Benchmark, samples: list[EvalSample], progress: Progress) -> list[bool]:
    """Returns for each sample whether its image shows the concept."""
    detections = Detections(load_detector(benchmark, model.device))
    target = TargetClasses(benchmark.head, benchmark.classes)
    generator = ImageGenerator(model, benchmark.sampler, ImageCache())
    read_images(generator, samples, None, partial(add_detections, detections), progress, "verifying prompts")
    by_key = {row.prompt.key: row.shows(target) for row in detections.rows(TARGET, REPLACEMENT)}
    return [by_key[to_eval_prompt(sample).key] for sample in samples]


def ecgvf_benchmark(source: Benchmark, pairs_by_split: Mapping[str, Sequence[PromptPair]]) -> Benchmark:
    """Returns a benchmark with verified pairs as its groups name and near; the other groups are the source's.

    Args:
        source: the benchmark to take everything else from.
        pairs_by_split: verified pairs by split.

    Raises:
        EffaceError: a split with fewer than two pairs.
    """
    splits = {split: _split(source, split, pairs) for split, pairs in pairs_by_split.items()}
    counts = ", ".join(f"{len(pairs)} in {split}" for split, pairs in pairs_by_split.items())
    description = f"{source.concept.name}: verified pairs of prompts ({counts}) in place of {source.name}'s"
    return replace(source, name=f"ecgvf-{source.name}", version=1, description=description, splits=splits)


def _split(source: Benchmark, split: str, pairs: Sequence[PromptPair]) -> dict[str, Any]:
    if len(pairs) < MIN_PAIRS:
        raise EffaceError(
            f"only {len(pairs)} pairs of the split {split} show {source.concept.name!r} and its replacement: "
            "raise --count, or choose a model that knows the concept"
        )
    shown = {source.head: list(source.classes)}
    groups = {
        TARGET: [{"phrase": pair.target, "expected": shown} for pair in pairs],
        REPLACEMENT: [{"phrase": pair.replacement, "expected": dict(pair.expected)} for pair in pairs],
    }
    for group in ("domain", "other"):
        samples = source.samples(split, groups=(group,))
        groups[group] = [
            {"phrase": sample.prompt, "expected": {head: list(names) for head, names in sample.expected.items()}}
            for sample in samples
        ]
    return {
        "seed": source.first_seed(split),
        "templates": [{"text": "{}", "expected": {}}],
        "groups": {name: {"templates": 1, "seeds": 1, "phrases": phrases} for name, phrases in groups.items()},
    }
