"""EraseEval's numbers as functions of features and CLIP scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from efface.core.intervals import clustered_bootstrap
from efface.core.score import DetectorId, Provenance, Score
from efface.core.seeds import derive_seed
from efface.metrics.cmmd import Cmmd

RESAMPLES = 500


def mean_cosines(before: Tensor, after: Tensor, kept: Sequence[bool], images_per_prompt: int) -> list[float]:
    """Returns for each image after its mean cosine with all images before of its prompt, from 0 to 1.

    Args:
        before: unit vectors ``(prompts * n, d)``, prompt by prompt.
        after: likewise.
        kept: whether an image after counts; else it is 0.
        images_per_prompt: n.
    """
    values = list[float]()
    for start in range(0, len(after), images_per_prompt):
        rows = slice(start, start + images_per_prompt)
        cosines = (after[rows] @ before[rows].T).mean(1).clamp(0, 1).cpu()
        values += (cosines * torch.tensor(list(kept[rows]))).tolist()
    return values


def clip_ratio(
    before: Sequence[float],
    after: Sequence[float],
    prompts: Sequence[str],
    detector: DetectorId,
    provenance: Provenance,
) -> Score:
    """Returns M3: the ratio of the mean CLIP scores after and before, at most 1."""
    rng = np.random.default_rng(derive_seed(0, "erase_eval", "m3"))
    score = Score.retention_ratio("m3", "other", before, after, prompts, rng, detector, provenance)
    if score.value is None or score.low is None or score.high is None:
        return score
    return replace(score, value=min(score.value, 1.0), low=min(score.low, 1.0), high=min(score.high, 1.0))


def cmmd_score(
    before: Tensor, after: Tensor, reference: Tensor, prompts: Sequence[str], detector: DetectorId,
    provenance: Provenance,
) -> Score:  # fmt: skip
    """Returns M4: 2 - CMMD after / CMMD before, limited to [0, 1]; the interval resamples prompts.

    Args:
        before: unit vectors of the images before, ``(N, d)``.
        after: of those after.
        reference: of real images, ``(M, d)``.
        prompts: the images' prompts.
        detector: the CLIP model.
        provenance: of the images; both distances are added.
    """
    distances = Cmmd(before, reference), Cmmd(after, reference)

    def statistic(rows: Any) -> float:
        old, new = (distance.value(torch.as_tensor(rows)) for distance in distances)
        return min(max(2 - new / old, 0.0), 1.0) if old > 0 else float(new <= 0)

    everything = np.arange(len(prompts))
    value, low, high = statistic(everything), None, None
    if len(prompts) > 1:
        rng = np.random.default_rng(derive_seed(0, "erase_eval", "m4"))
        bounds = clustered_bootstrap(everything, prompts, statistic, rng=rng, resamples=RESAMPLES)
        low, high = min(bounds.low, value), max(bounds.high, value)
    cmmd = {"before": distances[0].value(), "after": distances[1].value(), "reference_images": len(reference)}
    described = replace(provenance, extra={**provenance.extra, "cmmd": cmmd})
    return Score("m4", "other", value, low, high, len(prompts), detector, described)
