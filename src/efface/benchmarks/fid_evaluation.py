"""FID on unrelated prompts, beside the FID of the unedited model against itself with other seeds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.result import Score
from efface.metrics.fid import MIN_IMAGES, FeatureMoments, fid
from efface.ops.training.progress import Progress, Silent

from .benchmark import Benchmark
from .collectors import check_image_size
from .detector_loading import load_detector, load_features
from .image_generation import ImageGenerator, read_images
from .image_scoring import sampling_provenance
from .joint_erasure import exclude_samples, other_erased_targets
from .samples import EvalSample

SEED_OFFSET = 50_000
"""Distance of these images' first seed from the split's first seed, so that no other image shares a seed."""


def benchmark_fid(
    benchmark: Benchmark, image_generator: ImageGenerator, erasure: Erasure | None, *, num_images: int = MIN_IMAGES,
    split: str = "test", progress: Progress | None = None, min_images: int = MIN_IMAGES,
) -> list[Score]:  # fmt: skip
    """FID of the erased model and of the base model (``fid_before``), both against the base model with other seeds.

    Args:
        benchmark: its group ``other`` gives the prompts, which are repeated in turn.
        image_generator: generates the images.
        erasure: the erasure to evaluate.
        num_images: images on either side; three times as many are generated, two thirds of them by the base model.
        split: ``test`` or ``dev``.
        progress: progress display.
        min_images: smallest number of images for which an FID has a value.

    Raises:
        EffaceError: fewer images than `min_images`.
    """
    if num_images < min_images:
        raise EffaceError(f"FID needs at least {min_images} images, not {num_images}: ask for more, or read the KID")
    check_image_size(image_generator.model, benchmark)
    progress = progress or Silent()
    network = _feature_network(benchmark, image_generator)
    reference_samples, samples = _sample_sets(benchmark, erasure, split, num_images)
    reference = _features("FID: reference", image_generator, reference_samples, None, network, progress)
    provenance = replace(
        sampling_provenance(benchmark), extra={"reference": "the unedited model, the same prompts, other seeds"}
    )
    scores = []
    for metric, state in (("fid_before", None), ("fid", erasure)):
        label = f"FID: {'after' if state else 'before'}"
        features = _features(label, image_generator, samples, state, network, progress)
        score = fid(
            reference, features, "other", detector=network.detector, provenance=provenance, min_images=min_images
        )
        scores.append(replace(score, metric=metric))
    return scores


def _feature_network(benchmark: Benchmark, image_generator: ImageGenerator) -> Any:
    device = image_generator.model.device
    detector = None if benchmark.features else load_detector(benchmark, device)
    return load_features(benchmark.features, detector, device)


def _sample_sets(
    benchmark: Benchmark, erasure: Erasure | None, split: str, num_images: int
) -> tuple[list[EvalSample], list[EvalSample]]:
    """The reference's samples and the evaluated ones: the same prompts, other seeds."""
    first_seed = benchmark.first_seed(split) + SEED_OFFSET
    samples = exclude_samples(benchmark.samples(split, groups=("other",)), other_erased_targets(benchmark, erasure))

    def with_seeds_from(seed: int) -> list[EvalSample]:
        return [replace(samples[i % len(samples)], seed=seed + i) for i in range(num_images)]

    return with_seeds_from(first_seed), with_seeds_from(first_seed + num_images)


def _features(
    name: str,
    image_generator: ImageGenerator,
    samples: list[EvalSample],
    erasure: Erasure | None,
    network: Any,
    progress: Progress,
) -> FeatureMoments:
    """Moments of the features of the samples' images."""
    moments = FeatureMoments()

    def read(batch: list[EvalSample], images: Any) -> None:
        moments.update(network(images), [sample.prompt for sample in batch])

    read_images(image_generator, samples, erasure, read, progress, name)
    return moments
