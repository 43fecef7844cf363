"""The files of an evaluation: scores, the detections of every image, and some of the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from efface.core.io import atomic_folder
from efface.core.manifest import IMAGES
from efface.core.result import Result
from efface.core.serialization import json_bytes, to_jsonable
from efface.core.subsample import evenly_spaced
from efface.metrics.detections import Detections
from efface.metrics.interference import ObjectInterference
from efface.ops.png import encode_png

from .samples import EvalSample

RESULT = "result.json"
DETECTIONS = "detections.json"
IMAGE_FOLDER = "images"
INTERFERENCE = "interference.json"
IMAGES_TO_SAVE = 12
"""Pairs of images to save of each group."""

SampleKey = tuple[str, str, int]
"""Group, prompt and seed of a sample."""


@dataclass
class Evaluation:
    """One evaluation.

    Attributes:
        result: scores and verdict.
        samples: the sample of every judged image.
        before: detections before the erasure; None where the base model generated no images (attacks).
        after: detections after the erasure.
        interference: one row for each other object.
        saved_images: bytes ``(3, H, W)`` of the images to save, before and after, by group, prompt and seed.
        folder: the folder where the evaluation was saved.
    """

    result: Result
    samples: Sequence[EvalSample]
    before: Detections | None
    after: Detections
    interference: tuple[ObjectInterference, ...] = ()
    saved_images: Mapping[SampleKey, tuple[Tensor | None, Tensor]] = field(default_factory=dict, repr=False)
    folder: Path | None = None

    def save(self, folder: Path) -> Evaluation:
        """Write the folder atomically; a folder with content is never replaced."""
        with atomic_folder(folder) as new:
            (new / RESULT).write_bytes(json_bytes(to_jsonable(self.result.to_dict())))
            (new / DETECTIONS).write_bytes(json_bytes({"rows": [self._row(sample) for sample in self.samples]}))
            (new / INTERFERENCE).write_bytes(json_bytes(to_jsonable([row.to_dict() for row in self.interference])))
            (new / IMAGE_FOLDER).mkdir()
            for name, data in self.image_files().items():
                (new / name).write_bytes(data)
        self.folder = folder
        return self

    def image_files(self) -> dict[str, bytes]:
        """The saved images as PNG files by name, and `IMAGES`, which lists them with their prompts and detections."""
        shown = [sample for sample in self.samples if sample_key(sample) in self.saved_images]
        images: dict[str, bytes] = {}
        rows = [self._encode_pair(sample, images) for sample in shown]
        return {IMAGES: json_bytes(rows), **images}

    def _row(self, sample: EvalSample) -> dict[str, Any]:
        text = f"{sample.text} (embeddings near: {sample.nearest_tokens})" if sample.soft else sample.text
        return {
            "group": sample.group,
            "prompt": sample.prompt,
            "text": text,
            "seed": sample.seed,
            "expected": {head: list(classes) for head, classes in sample.expected.items()},
            "before": _labels(self.before, sample),
            "after": _labels(self.after, sample),
        }

    def _encode_pair(self, sample: EvalSample, files: dict[str, bytes]) -> dict[str, Any]:
        """Encode a sample's images before and after into the files; returns its row with their names."""
        row = self._row(sample)
        row["detected_before"], row["detected_after"] = row.pop("before"), row.pop("after")
        number = list(self.saved_images).index(sample_key(sample))
        for when, image in zip(("before", "after"), self.saved_images[sample_key(sample)], strict=True):
            name = f"{IMAGE_FOLDER}/{number:03}-{when}.png"
            if image is not None:
                files[name] = encode_png(image)
            row[when] = name if image is not None else None
        return row


def sample_key(sample: EvalSample) -> SampleKey:
    """Group, prompt and seed of a sample."""
    return sample.group, sample.prompt, sample.seed


def samples_to_save(samples: Sequence[EvalSample]) -> list[EvalSample]:
    """The samples whose images are saved: `IMAGES_TO_SAVE` of each group, evenly spaced."""
    groups: dict[str, list[EvalSample]] = {}
    for sample in samples:
        groups.setdefault(sample.group, []).append(sample)
    return [sample for group in groups.values() for sample in evenly_spaced(group, IMAGES_TO_SAVE)]


def _labels(detections: Detections | None, sample: EvalSample) -> dict[str, str] | None:
    detection = None if detections is None else detections.find(sample_key(sample))
    return None if detection is None else dict(detection.labels)
