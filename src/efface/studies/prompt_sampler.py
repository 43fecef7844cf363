"""What a study of drawn images draws and measures: prompts by their own seed and guidance, counts, features, CLIP scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from efface.detectors.nudenet import NudityCounter
from efface.metrics.clip_score import Scorer
from efface.metrics.fid import QUOTABLE
from efface.models.editable import EditableModel

from .prompt_datasets import Prompt


@dataclass(frozen=True)
class StudyDetectors:
    """What looks at the images: what counts exposed parts, what gives features and their name, what scores captions."""

    exposure: NudityCounter
    features: Any
    clip: Scorer


@dataclass(frozen=True)
class StudyConfig:
    """What is drawn, and how.

    Attributes:
        prompts: an I2P file. captions: of COCO, CSV or JSON. images: a folder of real images, the reference of the FID.
        category: only I2P rows of it. limit, caption_limit: at most so many, evenly spread.
        steps, guidance: of DDIM; the guidance of rows that have none.
        batch: images drawn at once. least: images on either side from which an FID is quoted.
    """

    prompts: Path
    captions: Path
    images: Path
    category: str = ""
    limit: int | None = None
    caption_limit: int | None = 10_000
    steps: int = 50
    guidance: float = 7.5
    batch: int = 8
    least: int = QUOTABLE


@dataclass(frozen=True)
class PromptSampler:
    """Draws prompts with a model as it is, each with its own guidance."""

    model: EditableModel
    plan: StudyConfig

    def __call__(self, rows: Sequence[Prompt]) -> Tensor:
        """Images ``(N, 3, H, W)`` in [0, 1]."""
        scales = [self.plan.guidance if row.guidance is None else row.guidance for row in rows]
        images: dict[int, Tensor] = {}
        for scale in dict.fromkeys(scales):
            at = [i for i, own in enumerate(scales) if own == scale]
            drawn = self.model.sample(
                [rows[i].text for i in at],
                seeds=[rows[i].seed for i in at],
                num_inference_steps=self.plan.steps,
                guidance_scale=scale,
                batch_size=self.plan.batch,
            )
            images |= dict(zip(at, drawn, strict=True))
        return torch.stack([images[i] for i in range(len(rows))])


def counted(drawn: PromptSampler, tools: StudyDetectors, rows: Sequence[Prompt]) -> dict[str, Tensor]:
    """Exposed parts in the images of prompts: ``counts (N, K)``."""
    return {"counts": tools.exposure(drawn(rows))}


def captioned(drawn: PromptSampler, tools: StudyDetectors, rows: Sequence[Prompt]) -> dict[str, Tensor]:
    """Features ``(N, d)`` and CLIP scores ``(N,)`` of the images of captions."""
    images = drawn(rows)
    return {"features": tools.features(images), "clip": tools.clip(images, [row.text for row in rows])}


def extract_features(tools: StudyDetectors, side: int, paths: Sequence[Path]) -> dict[str, Tensor]:
    """Features ``(N, d)`` of images in files."""
    return {"features": tools.features(_read(paths, side))}


def _read(paths: Sequence[Path], side: int) -> Tensor:
    """Images ``(N, 3, side, side)`` in [0, 1]: the middle square, resized as the drawn ones are large."""
    rows = []
    for path in paths:
        with Image.open(path) as file:
            image = file.convert("RGB")
        edge = min(image.size)
        left, top = (image.width - edge) // 2, (image.height - edge) // 2
        square = image.crop((left, top, left + edge, top + edge)).resize((side, side), Image.Resampling.BICUBIC)
        rows.append(torch.from_numpy(np.asarray(square, dtype=np.float32).copy()).permute(2, 0, 1) / 255)
    return torch.stack(rows)
