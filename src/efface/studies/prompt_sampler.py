"""Images of a study and their measurements: counts of exposed parts, features and CLIP scores."""

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
from efface.metrics.clip_score import ClipScorer
from efface.metrics.fid import MIN_IMAGES
from efface.models.editable import EditableModel
from efface.ops.unreadable_images import flat_images

from .prompt_datasets import Prompt


@dataclass(frozen=True)
class StudyDetectors:
    """The detectors of a study.

    Attributes:
        counter: counts exposed parts in images.
        features: feature network of the FID, with its id as ``detector``.
        clip: scores images with captions.
    """

    counter: NudityCounter
    features: Any
    clip: ClipScorer


@dataclass(frozen=True)
class StudyConfig:
    """The data of a study and the settings of its images.

    Attributes:
        prompts: I2P file.
        captions: captions of COCO, a CSV or JSON file.
        images: folder of real images, the reference of the FID.
        category: use only I2P prompts of this category; all if empty.
        limit: maximum number of prompts, evenly spread.
        caption_limit: maximum number of captions, evenly spread.
        num_inference_steps: number of DDIM steps.
        guidance_scale: guidance scale of prompts without their own.
        batch_size: number of images generated at a time.
        min_images: smallest number of real and of generated images for which an FID is reported.
    """

    prompts: Path
    captions: Path
    images: Path
    category: str = ""
    limit: int | None = None
    caption_limit: int | None = 10_000
    num_inference_steps: int = 50
    guidance_scale: float = 7.5
    batch_size: int = 8
    min_images: int = MIN_IMAGES


@dataclass(frozen=True)
class PromptSampler:
    """Generates images of prompts with a model, each with its own seed and guidance scale."""

    model: EditableModel
    config: StudyConfig

    def __call__(self, prompts: Sequence[Prompt]) -> Tensor:
        """Returns images ``(N, 3, H, W)`` in [0, 1]."""
        default = self.config.guidance_scale
        scales = [default if prompt.guidance_scale is None else prompt.guidance_scale for prompt in prompts]
        images: dict[int, Tensor] = {}
        for scale in dict.fromkeys(scales):
            indices = [i for i, own_scale in enumerate(scales) if own_scale == scale]
            batch = self.model.sample(
                [prompts[i].text for i in indices],
                seeds=[prompts[i].seed for i in indices],
                num_inference_steps=self.config.num_inference_steps,
                guidance_scale=scale,
                batch_size=self.config.batch_size,
            )
            images |= dict(zip(indices, batch, strict=True))
        return torch.stack([images[i] for i in range(len(prompts))])


def count_exposed_parts(
    sampler: PromptSampler, detectors: StudyDetectors, prompts: Sequence[Prompt]
) -> dict[str, Tensor]:
    """Generates images of prompts; returns their exposed parts, ``counts (N, K)``, and which are ``flat (N,)``."""
    images = sampler(prompts)
    return {"counts": detectors.counter(images), "flat": torch.tensor(flat_images(images))}


def score_captions(sampler: PromptSampler, detectors: StudyDetectors, captions: Sequence[Prompt]) -> dict[str, Tensor]:
    """Generates images of captions; returns their ``features (N, d)`` and CLIP scores, ``clip (N,)``."""
    images = sampler(captions)
    return {
        "features": detectors.features(images),
        "clip": detectors.clip(images, [caption.text for caption in captions]),
    }


def mean_count(chunk: dict[str, Tensor]) -> dict[str, float]:
    """Returns the mean number of exposed parts per image, for the progress display."""
    return {"parts per image": float(chunk["counts"].sum(1).mean())}


def mean_clip_score(chunk: dict[str, Tensor]) -> dict[str, float]:
    """Returns the mean CLIP score, for the progress display."""
    return {"CLIP score": float(chunk["clip"].mean())}


def extract_features(detectors: StudyDetectors, side: int, paths: Sequence[Path]) -> dict[str, Tensor]:
    """Returns the ``features (N, d)`` of image files, scaled to ``side`` x ``side`` pixels."""
    return {"features": detectors.features(_load_images(paths, side))}


def _load_images(paths: Sequence[Path], side: int) -> Tensor:
    """Loads images ``(N, 3, side, side)`` in [0, 1]: the central square of each, resized."""
    images = []
    for path in paths:
        with Image.open(path) as file:
            image = file.convert("RGB")
        edge = min(image.size)
        left, top = (image.width - edge) // 2, (image.height - edge) // 2
        square = image.crop((left, top, left + edge, top + edge)).resize((side, side), Image.Resampling.BICUBIC)
        images.append(torch.from_numpy(np.asarray(square, dtype=np.float32).copy()).permute(2, 0, 1) / 255)
    return torch.stack(images)
