"""FID of what is drawn for unrelated prompts, beside the one that the unedited model has from itself with other seeds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.result import Score
from efface.metrics.fid import QUOTABLE, FeatureStats, fid
from efface.ops.training.progress import Progress, Silent

from .benchmark import Benchmark, Row
from .collectors import check_size
from .detector_loading import features_of, look_of
from .image_generation import Painter
from .joint_erasure import apart, elsewhere
from .runner import drawn

AFTER = 50_000
"""How far behind a part's first seed the seeds of these pictures begin, so that none was drawn for anything else."""


def distance(
    benchmark: Benchmark, painter: Painter, erasure: Erasure | None, *, pictures: int = QUOTABLE, part: str = "test",
    progress: Progress | None = None, least: int = QUOTABLE,
) -> list[Score]:  # fmt: skip
    """``fid`` of the erased model and ``fid_before`` of the base model, both from the base model's pictures with other seeds.

    Args:
        benchmark: its group ``other`` gives the prompts, which are gone round in turn.
        painter: draws them.
        erasure: what is evaluated.
        pictures: on either side; three times as many are drawn, two thirds of them by the base model.
        part: ``test`` or ``dev``.
        progress: where to show how far it is.
        least: pictures from which an FID is quoted.

    Raises:
        EffaceError: fewer pictures than that.
    """
    if pictures < least:
        raise EffaceError(f"an FID is quoted from {least} pictures on, not {pictures}: draw more, or read the KID")
    check_size(painter.model, benchmark)
    start = benchmark.first_seed(part) + AFTER
    device = painter.model.device
    network = features_of(benchmark.features, None if benchmark.features else look_of(benchmark, device), device)
    rows = apart(benchmark.rows(part, groups=("other",)), elsewhere(benchmark, erasure))
    sets = [[replace(rows[i % len(rows)], seed=start + k * pictures + i) for i in range(pictures)] for k in range(2)]
    reference = _features("FID: reference", painter, sets[0], None, network, progress or Silent())
    how = replace(drawn(benchmark), extra={"reference": "the unedited model, the same prompts, other seeds"})
    scores = []
    for metric, state in (("fid_before", None), ("fid", erasure)):
        found = _features(
            f"FID: {'after' if state else 'before'}", painter, sets[1], state, network, progress or Silent()
        )
        score = fid(reference, found, "other", detector=network.detector, provenance=how, least=least)
        scores.append(replace(score, metric=metric))
    return scores


def _features(
    name: str, painter: Painter, rows: list[Row], erasure: Erasure | None, network: Any, progress: Progress
) -> FeatureStats:
    """The features of the rows' pictures."""
    found = FeatureStats()
    progress.start(name, len(rows), 0)
    try:
        for part, images in painter.pictures(rows, erasure):
            found.update(network(images), [row.prompt for row in part])
            progress.update(found.n, {})
    finally:
        progress.stop()
    return found
