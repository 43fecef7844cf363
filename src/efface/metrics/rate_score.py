"""From rows of a table to a score: the one interval that rates have, and which images a score rests on. Itself no metric."""

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
    """The provenance with the hash of the distinct prompts of these rows, and their seeds where it names none."""
    prompts = list(dict.fromkeys(row.prompt.prompt for row in rows))
    seeds = provenance.seeds or tuple(sorted({row.prompt.seed for row in rows}))
    return replace(provenance, prompts=json_hash(prompts), seeds=seeds, extra={**provenance.extra, **extra})


def rate_score(
    metric: str, group: str, hits: ArrayLike, rows: Sequence[Detection],
    rng: np.random.Generator, detector: DetectorId, provenance: Provenance,
) -> Score:  # fmt: skip
    """The mean of ``(n,)`` hits (0 or 1), one for each row, with an interval that is clustered by prompt and has width at 0 and 1.

    It spans Wilson's, which has width where all hits are alike, and the bootstrap over prompts, which knows that images of one
    prompt resemble each other: never narrower than either.
    """
    values = np.asarray(hits, float)
    score = Score.rate(metric, group, float(values.sum()), len(values), detector, describe_provenance(provenance, rows))
    if score.low is None or score.high is None or len(values) < 2:
        return score
    low, high = clustered_bootstrap(values, [row.prompt.prompt for row in rows], rng=rng)
    return replace(score, low=min(score.low, low), high=max(score.high, high))
