"""What looks at a benchmark's images as they pass: the judge once an image, CLIP and features where they are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from efface.core.errors import EffaceError
from efface.core.score import DetectorId
from efface.metrics.clip_score import ClipScores
from efface.metrics.detections import Detections, EvalPrompt
from efface.metrics.erasure_retention import RETAINED_GROUPS
from efface.metrics.kid import Features
from efface.models.editable import EditableModel

from .benchmark import Benchmark, EvalSample
from .detector_loading import INPUT_SIZES, check_names, load_clip, load_detector, load_features
from .evaluation import Key, key_of


@dataclass
class MetricCollector:
    """What looks at the images of one model as they pass; ``network`` gives features where the detector's own are not wanted."""

    detections: Detections
    clips: dict[str, ClipScores]
    features: Features
    detector: Any
    network: Any
    kept: dict[Key, Tensor]

    @classmethod
    def of(cls, benchmark: Benchmark, device: torch.device | str = "cpu") -> MetricCollector:
        """A watch with the benchmark's detectors, on a device."""
        check_names(benchmark)
        look, clip = load_detector(benchmark, device), load_clip(benchmark.clip, device)
        network = load_features(benchmark.features, device=device) if benchmark.features else None
        return cls(
            Detections(look), {group: ClipScores(clip) for group in RETAINED_GROUPS}, Features(), look, network, {}
        )

    @property
    def feature_id(self) -> DetectorId:
        """Whose features they are."""
        if self.network is not None:
            found: DetectorId = self.network.detector
            return found
        name, _, version = self.detector.id.partition("@")
        return DetectorId(name, version)

    def fresh_copy(self) -> MetricCollector:
        """A new watch with the same detectors."""
        clips = {group: ClipScores(scores.scorer) for group, scores in self.clips.items()}
        return MetricCollector(Detections(self.detector), clips, Features(), self.detector, self.network, {})

    def update(self, rows: Sequence[EvalSample], images: Tensor, keep: set[Key]) -> None:
        """Look at one batch ``(B, 3, H, W)`` in [0, 1]."""
        judgement = self.detections.update(images, [asked(row) for row in rows])
        for group, scores in self.clips.items():
            at = [i for i, row in enumerate(rows) if row.group == group]
            scores.update(images[at], [rows[i].prompt for i in at])
        rest = [i for i, row in enumerate(rows) if row.group in RETAINED_GROUPS]
        own = getattr(judgement, "features", None)
        if rest and (self.network is not None or own is not None):
            found = own[rest] if self.network is None and own is not None else self.network(images[rest])
            self.features.update(found, [rows[i].prompt for i in rest])
        self.kept |= {
            key_of(row): (image * 255).round().to(torch.uint8)
            for row, image in zip(rows, images, strict=True)
            if key_of(row) in keep
        }


def check_size(model: EditableModel, benchmark: Benchmark) -> None:
    """Raises `EffaceError` unless the model draws images of the size that the benchmark's detectors were made for."""
    for name in (benchmark.detector, benchmark.clip):
        wanted, side = INPUT_SIZES.get(name.partition("@")[0]), model.image_size
        if wanted is not None and side != wanted:
            raise EffaceError(
                f"{name} sees images of {wanted} x {wanted}; {model.name} draws {side} x {side}: use another benchmark"
            )


def asked(row: EvalSample) -> EvalPrompt:
    """A row as the metrics know it."""
    return EvalPrompt(row.prompt, row.seed, row.group, row.expected)
