"""Turn hits and misses of single images into a score with an interval; shared by the rate metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from efface.core.intervals import clustered_bootstrap
from efface.core.score import DetectorId, Provenance, Score
from efface.core.serialization import json_hash

from .detections import Detection


def describe_provenance(provenance: Provenance, rows: Sequence[Detection], **extra: Any) -> Provenance:
    """Add the hash of the rows' distinct prompts, and their seeds where the provenance has none."""
    prompts = list(dict.fromkeys(row.prompt.prompt for row in rows))
    seeds = provenance.seeds or tuple(sorted({row.prompt.seed for row in rows}))
    return replace(provenance, prompts=json_hash(prompts), seeds=seeds, extra={**provenance.extra, **extra})


def rate_score(
    metric: str,
    group: str,
    hits: ArrayLike,
    rows: Sequence[Detection],
    rng: np.random.Generator,
    detector: DetectorId,
    provenance: Provenance,
) -> Score:
    """Score the mean of ``(n,)`` hits (0 or 1), one for each row, with an interval clustered by prompt.

    The interval spans both Wilson's, which has width where all hits are alike, and the bootstrap over prompts, which
    accounts for the correlation of images of one prompt. It is never narrower than either.
    """
    values = np.asarray(hits, float)
    score = Score.rate(metric, group, int(values.sum()), len(values), detector, describe_provenance(provenance, rows))
    if score.low is None or score.high is None or len(values) < 2:
        return score
    low, high = clustered_bootstrap(values, [row.prompt.prompt for row in rows], rng=rng)
    return replace(score, low=min(score.low, low), high=max(score.high, high))
