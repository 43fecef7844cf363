"""Run a benchmark: generate every image once, before and after the erasure, and compute all metrics from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from efface.core.attack_set import AttackSet
from efface.core.erasure import Erasure
from efface.core.result import Result, Score, Thresholds
from efface.core.seeds import derive_seed
from efface.metrics.detections import TargetClasses
from efface.metrics.erasure_retention import RETAINED_GROUPS, erasure_and_retention_scores
from efface.metrics.harmonic import h_c, h_o
from efface.metrics.interference import ObjectInterference, interference
from efface.metrics.kid import kid
from efface.ops.training.progress import Progress, Silent

from .attack_evaluation import evaluate_attack
from .benchmark import Benchmark
from .collectors import MetricCollector, check_image_size
from .evaluation import Evaluation, SampleKey, sample_key, samples_to_save
from .image_generation import ImageGenerator
from .image_scoring import benchmark_metadata, generate_and_score, sampling_provenance
from .joint_erasure import exclude_samples, other_erased_targets
from .samples import GROUPS, EvalSample


def run_benchmark(
    benchmark: Benchmark,
    image_generator: ImageGenerator,
    erasure: Erasure | None,
    *,
    split: str = "test",
    seed: int | None = None,
    limit: int | None = None,
    groups: Sequence[str] = GROUPS,
    attacks: Sequence[AttackSet] = (),
    thresholds: Thresholds | None = None,
    progress: Progress | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Generate a benchmark's images before and after an erasure and score them.

    Prompts for other concepts that the erasure covers are left out.

    Args:
        benchmark: prompts, seeds and detectors.
        image_generator: generates the images.
        erasure: the erasure to evaluate; None evaluates the base model against itself.
        split: ``test`` or ``dev``.
        seed: seed of the first image; the split's own by default.
        limit: maximum number of images of a group.
        groups: the groups to evaluate; scores of other groups have no value.
        attacks: attack sets to evaluate too.
        thresholds: thresholds of the verdict.
        progress: progress display.
        metadata: further entries of the result's metadata.
    """
    check_image_size(image_generator.model, benchmark)
    progress = progress or Silent()
    all_samples = benchmark.samples(split, seed=seed, limit=limit, groups=groups)
    samples = exclude_samples(all_samples, other_erased_targets(benchmark, erasure))
    num_excluded = len(all_samples) - len(samples)
    run = _BeforeAndAfter.generate(benchmark, image_generator, samples, erasure, progress)
    root_seed = benchmark.first_seed(split) if seed is None else seed
    rng = np.random.default_rng(derive_seed(root_seed, "bootstrap"))
    scores = run.scores(rng)
    saved_images = run.saved_images()
    for attack in attacks:
        attacked = evaluate_attack(
            benchmark, image_generator, erasure, attack, run.after, progress=progress, limit=limit
        )
        scores += attacked.scores
        samples += attacked.samples
        saved_images |= attacked.saved_images
    result_metadata = {
        **benchmark_metadata(benchmark, split),
        "seed": root_seed,
        "limit": limit,
        "num_images": 2 * len(samples),
        "num_excluded": num_excluded,
        **(metadata or {}),
    }
    table = run.interference(rng)
    result = Result(tuple(scores), result_metadata, thresholds or Thresholds())
    return Evaluation(result, samples, run.before.detections, run.after.detections, table, saved_images)


@dataclass
class _BeforeAndAfter:
    """The collectors of one benchmark's images before and after an erasure."""

    benchmark: Benchmark
    target: TargetClasses
    before: MetricCollector
    after: MetricCollector

    @classmethod
    def generate(
        cls,
        benchmark: Benchmark,
        image_generator: ImageGenerator,
        samples: Sequence[EvalSample],
        erasure: Erasure | None,
        progress: Progress,
    ) -> _BeforeAndAfter:
        """Generate the samples' images with the base model and with the erasure."""
        before = MetricCollector.for_benchmark(benchmark, image_generator.model.device)
        run = cls(benchmark, TargetClasses(benchmark.head, benchmark.classes), before, before.fresh_copy())
        save_keys = {sample_key(sample) for sample in samples_to_save(samples)}
        for name, state, collector in (("before", None, run.before), ("after", erasure, run.after)):
            generate_and_score(image_generator, samples, state, collector, save_keys, run.target, progress, name)
        return run

    def scores(self, rng: np.random.Generator) -> list[Score]:
        """Rates, KID and CLIP scores of the retained groups, and MACE's harmonic means."""
        provenance = sampling_provenance(self.benchmark)
        before, after = self.before.detections, self.after.detections
        scores = list(erasure_and_retention_scores(before, after, self.target, rng=rng, provenance=provenance))
        reference = replace(provenance, extra={"reference": "the same prompts and seeds before"})
        scores.append(
            kid(
                self.before.feature_stream,
                self.after.feature_stream,
                "other",
                rng=rng,
                detector=self.before.feature_id,
                provenance=reference,
                paired=True,
            )
        )
        for group in RETAINED_GROUPS:
            for collector, metric in ((self.after, "clip_score"), (self.before, "clip_score_before")):
                accumulator = collector.clip_scores[group]
                scores.append(accumulator.compute(group, rng=rng, provenance=provenance, metric=metric))
        scores.append(h_o(after, self.target, rng=rng, provenance=provenance))
        scores.append(h_c(after, self.target, rng=rng, provenance=provenance))
        return scores

    def interference(self, rng: np.random.Generator) -> tuple[ObjectInterference, ...]:
        """The change of every object other than the concept's own."""
        return interference(
            self.before.detections,
            self.after.detections,
            RETAINED_GROUPS,
            rng=rng,
            provenance=sampling_provenance(self.benchmark),
            head=self.benchmark.head,
            excluded_classes=self.benchmark.classes,
        )

    def saved_images(self) -> dict[SampleKey, tuple[Tensor | None, Tensor]]:
        """Images before and after, by sample."""
        return {key: (self.before.saved_images[key], image) for key, image in self.after.saved_images.items()}
