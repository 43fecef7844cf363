"""CLIP score of a stream of images: the mean of ``100 max(cos, 0)`` between the embeddings of image and prompt.

The scorer always uses unedited CLIP towers: an erasure may have edited the model's own text encoder, which would then
judge itself. The scale is that of torchmetrics; CLIPScore as published (Hessel et al. 2021, arXiv 2104.08718) is 2.5
cos, without the factor 100. The detector's id names the towers: scores of different towers do not compare.

How it can be fooled: the cosine between an image and *any* prompt of the same kind is well above 0, so a mean that
fell "only a little" may belong to a destroyed model; compare with the score of shuffled prompts. The score is blind
to small objects and to counts. On the erased concept's own prompts a high score is a failure, on all others a low
one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from torch import Tensor

from efface.core.score import DetectorId, Provenance, Score
from efface.core.serialization import json_hash


class ClipScorer(Protocol):
    """Scores images with prompts, such as `efface.detectors.pocket_clip.PocketClipScore`."""

    @property
    def detector(self) -> DetectorId:
        """Name and version of the CLIP towers."""
        ...

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Score images ``(N, 3, H, W)`` in [0, 1] with N prompts; N scores in [0, 100]."""
        ...


class ClipScoreAccumulator:
    """Collects the CLIP scores of a stream of images: one number an image.

    Args:
        scorer: the unedited towers.
    """

    def __init__(self, scorer: ClipScorer) -> None:
        self.scorer = scorer
        self.values: list[float] = []
        self.prompts: list[str] = []

    def update(self, images: Tensor, prompts: Sequence[str]) -> None:
        """Score images ``(N, 3, H, W)`` in [0, 1], each with its prompt.

        Raises:
            ValueError: the numbers of images and prompts differ, or a score is not finite.
        """
        if len(images) != len(prompts):
            raise ValueError(f"{len(images)} images for {len(prompts)} prompts")
        if not prompts:
            return
        values = [float(value) for value in self.scorer(images, prompts).tolist()]
        if not np.isfinite(values).all():
            raise ValueError("a CLIP score is not finite: the images are broken")
        self.values += values
        self.prompts += prompts

    def compute(
        self, group: str, *, rng: np.random.Generator, provenance: Provenance, metric: str = "clip_score"
    ) -> Score:
        """Mean score with a bootstrap interval over prompts; None without images."""
        distinct_prompts = list(dict.fromkeys(self.prompts))
        hashed = replace(provenance, prompts=json_hash(distinct_prompts))
        return Score.mean(metric, group, self.values, self.prompts, rng, self.scorer.detector, hashed)
