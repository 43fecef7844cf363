"""Run a benchmark: generate every image once, before and after the erasure, and compute all metrics from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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

from .attack_evaluation import AttackEvaluation, evaluate_attack
from .benchmark import Benchmark
from .collectors import MetricCollector, check_image_size
from .evaluation import Evaluation, SampleKey, sample_key, samples_to_save
from .image_generation import ImageGenerator
from .image_scoring import benchmark_metadata, generate_and_score, sampling_provenance
from .joint_erasure import exclude_samples, other_erased_targets
from .samples import GROUPS, EvalSample


def run_benchmark(
    benchmark: Benchmark, image_generator: ImageGenerator, erasure: Erasure | None, *, split: str = "test",
    seed: int | None = None, limit: int | None = None, groups: Sequence[str] = GROUPS,
    attacks: Mapping[str, AttackSet] | None = None, thresholds: Thresholds | None = None,
    progress: Progress | None = None, metadata: Mapping[str, Any] | None = None,
) -> Evaluation:  # fmt: skip
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
        attacks: attack sets to evaluate too, by label.
        thresholds: thresholds of the verdict.
        progress: progress display.
        metadata: further entries of the result's metadata.
    """
    check_image_size(image_generator.model, benchmark)
    all_samples = benchmark.samples(split, seed=seed, limit=limit, groups=groups)
    samples = exclude_samples(all_samples, other_erased_targets(benchmark, erasure))
    counts = {"limit": limit, "num_excluded": len(all_samples) - len(samples)}
    root_seed = benchmark.first_seed(split) if seed is None else seed
    run = _BeforeAndAfter.generate(benchmark, image_generator, samples, erasure, progress or Silent())
    run.compute_scores(np.random.default_rng(derive_seed(root_seed, "bootstrap")))
    for label, attack in (attacks or {}).items():
        run.add_attack(
            evaluate_attack(
                benchmark, image_generator, erasure, attack, run.after, progress=progress, limit=limit, label=label
            )
        )
    entries = {**benchmark_metadata(benchmark, split), "seed": root_seed, **counts, **(metadata or {})}
    return run.evaluation(entries, thresholds)


@dataclass
class _BeforeAndAfter:
    """One benchmark's images before and after an erasure, with their scores."""

    benchmark: Benchmark
    target: TargetClasses
    samples: list[EvalSample]
    before: MetricCollector
    after: MetricCollector
    scores: list[Score] = field(default_factory=list)
    interference: tuple[ObjectInterference, ...] = ()
    saved_images: dict[SampleKey, tuple[Tensor | None, Tensor]] = field(default_factory=dict)

    @classmethod
    def generate(
        cls,
        benchmark: Benchmark,
        image_generator: ImageGenerator,
        samples: list[EvalSample],
        erasure: Erasure | None,
        progress: Progress,
    ) -> _BeforeAndAfter:
        """Generate the samples' images with the base model and with the erasure."""
        before = MetricCollector.for_benchmark(benchmark, image_generator.model.device)
        target = TargetClasses(benchmark.head, benchmark.classes)
        run = cls(benchmark, target, samples, before, before.fresh_copy())
        save_keys = {sample_key(sample) for sample in samples_to_save(samples)}
        for name, state, collector in (("before", None, run.before), ("after", erasure, run.after)):
            generate_and_score(image_generator, samples, state, collector, save_keys, target, progress, name)
        images = run.after.saved_images
        run.saved_images = {key: (run.before.saved_images[key], image) for key, image in images.items()}
        return run

    def compute_scores(self, rng: np.random.Generator) -> None:
        """Compute rates, KID and CLIP scores of the retained groups, MACE's harmonic means, and the interference."""
        provenance = sampling_provenance(self.benchmark)
        before, after = self.before.detections, self.after.detections
        self.scores += erasure_and_retention_scores(before, after, self.target, rng=rng, provenance=provenance)
        self.scores.append(self._kid(rng))
        for group in RETAINED_GROUPS:
            for collector, metric in ((self.after, "clip_score"), (self.before, "clip_score_before")):
                accumulator = collector.clip_scores[group]
                self.scores.append(accumulator.compute(group, rng=rng, provenance=provenance, metric=metric))
        self.scores.append(h_o(after, self.target, rng=rng, provenance=provenance))
        self.scores.append(h_c(after, self.target, rng=rng, provenance=provenance))
        self.interference = interference(
            before,
            after,
            RETAINED_GROUPS,
            rng=rng,
            provenance=provenance,
            head=self.benchmark.head,
            excluded_classes=self.benchmark.classes,
        )

    def _kid(self, rng: np.random.Generator) -> Score:
        return kid(
            self.before.feature_stream,
            self.after.feature_stream,
            "other",
            rng=rng,
            detector=self.before.feature_id,
            provenance=replace(
                sampling_provenance(self.benchmark), extra={"reference": "the same prompts and seeds before"}
            ),
            paired=True,
        )

    def add_attack(self, attack: AttackEvaluation) -> None:
        """Add an attack's scores, samples and images."""
        self.scores += attack.scores
        self.samples += attack.samples
        self.saved_images |= attack.saved_images

    def evaluation(self, metadata: Mapping[str, Any], thresholds: Thresholds | None) -> Evaluation:
        """The evaluation with its result."""
        entries = {"num_images": 2 * len(self.samples), **metadata}
        result = Result(tuple(self.scores), entries, thresholds or Thresholds())
        before, after = self.before.detections, self.after.detections
        return Evaluation(result, self.samples, before, after, self.interference, self.saved_images)
