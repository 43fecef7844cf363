"""The CLIP score of images with prompts, streaming: ``100 max(cos, 0)`` between the embeddings of each, and the mean of it.

Always by the unedited towers: an erasure may have moved the text encoder, and would then be judged by itself. The scale is that of
torchmetrics; CLIPScore as published (Hessel et al. 2021, arXiv 2104.08718) is 2.5 cos, without the 100. The detector's id names the
towers: scores of different ones do not compare.

How it can be fooled: a cosine between an image and *any* words of the same kind is well above 0, so that a mean that "fell only a
little" may stand for a destroyed model; hold it against the score of shuffled prompts. It is blind to small objects and to counts. On
the erased concept's own prompts a high score is a failure, on all others a low one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from torch import Tensor

from efface.core.score import DetectorId, Provenance, Score
from efface.core.serialization import json_hash


class Scorer(Protocol):
    """What scores images with prompts, such as `efface.detectors.pocket_clip.ClipScore`."""

    @property
    def detector(self) -> DetectorId:
        """Which towers."""
        ...

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Images ``(N, 3, H, W)`` in [0, 1] and N prompts to N scores in [0, 100]."""
        ...


class ClipScores:
    """The CLIP scores of a stream of images; keeps one number an image.

    Args:
        scorer: the unedited towers.
    """

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.values: list[float] = []
        self.prompts: list[str] = []

    def update(self, images: Tensor, prompts: Sequence[str]) -> None:
        """Score images ``(N, 3, H, W)`` in [0, 1], each with its prompt.

        Raises:
            ValueError: another number of images than of prompts, or a score that is not finite.
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
        """The mean, with a bootstrap over prompts; None where there were no images."""
        how = replace(provenance, prompts=json_hash(list(dict.fromkeys(self.prompts))))
        return Score.mean(metric, group, self.values, self.prompts, rng, self.scorer.detector, how)
