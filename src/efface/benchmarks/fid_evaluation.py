"""FID of what is drawn for unrelated prompts, beside the one that the unedited model has from itself with other seeds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.result import Score
from efface.metrics.fid import QUOTABLE, FeatureStats, fid
from efface.ops.training.progress import Progress, Silent

from .benchmark import Benchmark, EvalSample
from .collectors import check_size
from .detector_loading import load_detector, load_features
from .image_generation import ImageGenerator
from .joint_erasure import exclude_rows, other_erased_targets
from .runner import sampling_provenance

AFTER = 50_000
"""How far behind a part's first seed the seeds of these images begin, so that none was drawn for anything else."""


def benchmark_fid(
    benchmark: Benchmark, image_generator: ImageGenerator, erasure: Erasure | None, *, images: int = QUOTABLE, part: str = "test",
    progress: Progress | None = None, least: int = QUOTABLE,
) -> list[Score]:  # fmt: skip
    """``fid`` of the erased model and ``fid_before`` of the base model, both from the base model's images with other seeds.

    Args:
        benchmark: its group ``other`` gives the prompts, which are gone round in turn.
        image_generator: draws them.
        erasure: what is evaluated.
        images: on either side; three times as many are drawn, two thirds of them by the base model.
        part: ``test`` or ``dev``.
        progress: where to show how far it is.
        least: images from which an FID is quoted.

    Raises:
        EffaceError: fewer images than that.
    """
    if images < least:
        raise EffaceError(f"an FID is quoted from {least} images on, not {images}: draw more, or read the KID")
    check_size(image_generator.model, benchmark)
    start = benchmark.first_seed(part) + AFTER
    device = image_generator.model.device
    network = load_features(
        benchmark.features, None if benchmark.features else load_detector(benchmark, device), device
    )
    rows = exclude_rows(benchmark.rows(part, groups=("other",)), other_erased_targets(benchmark, erasure))
    sets = [[replace(rows[i % len(rows)], seed=start + k * images + i) for i in range(images)] for k in range(2)]
    reference = _features("FID: reference", image_generator, sets[0], None, network, progress or Silent())
    how = replace(
        sampling_provenance(benchmark), extra={"reference": "the unedited model, the same prompts, other seeds"}
    )
    scores = []
    for metric, state in (("fid_before", None), ("fid", erasure)):
        found = _features(
            f"FID: {'after' if state else 'before'}", image_generator, sets[1], state, network, progress or Silent()
        )
        score = fid(reference, found, "other", detector=network.detector, provenance=how, least=least)
        scores.append(replace(score, metric=metric))
    return scores


def _features(
    name: str,
    image_generator: ImageGenerator,
    rows: list[EvalSample],
    erasure: Erasure | None,
    network: Any,
    progress: Progress,
) -> FeatureStats:
    """The features of the rows' images."""
    found = FeatureStats()
    progress.start(name, len(rows), 0)
    try:
        for part, images in image_generator.generate(rows, erasure):
            found.update(network(images), [row.prompt for row in part])
            progress.update(found.n, {})
    finally:
        progress.stop()
    return found
