"""What looks at a benchmark's pictures as they pass: the judge once a picture, CLIP and features where they are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from efface.core.errors import EffaceError
from efface.core.score import DetectorId
from efface.metrics.clip_score import ClipScores
from efface.metrics.detections import Asked, Sightings
from efface.metrics.erasure_retention import RETAINED
from efface.metrics.kid import Features
from efface.models.editable import Editable

from .benchmark import Benchmark, Row
from .detector_loading import SIDES, check_names, clip_of, features_of, look_of
from .evaluation import Key, key_of


@dataclass
class Watch:
    """What looks at the pictures of one model as they pass; ``network`` gives features where the detector's own are not wanted."""

    seen: Sightings
    clips: dict[str, ClipScores]
    features: Features
    look: Any
    network: Any
    kept: dict[Key, Tensor]

    @classmethod
    def of(cls, benchmark: Benchmark, device: torch.device | str = "cpu") -> Watch:
        """A watch with the benchmark's detectors, on a device."""
        check_names(benchmark)
        look, clip = look_of(benchmark, device), clip_of(benchmark.clip, device)
        network = features_of(benchmark.features, device=device) if benchmark.features else None
        return cls(Sightings(look), {group: ClipScores(clip) for group in RETAINED}, Features(), look, network, {})

    @property
    def featured(self) -> DetectorId:
        """Whose features they are."""
        if self.network is not None:
            found: DetectorId = self.network.detector
            return found
        name, _, version = self.look.id.partition("@")
        return DetectorId(name, version)

    def again(self) -> Watch:
        """A new watch with the same detectors."""
        clips = {group: ClipScores(scores.scorer) for group, scores in self.clips.items()}
        return Watch(Sightings(self.look), clips, Features(), self.look, self.network, {})

    def update(self, rows: Sequence[Row], images: Tensor, keep: set[Key]) -> None:
        """Look at one batch ``(B, 3, H, W)`` in [0, 1]."""
        judgement = self.seen.update(images, [asked(row) for row in rows])
        for group, scores in self.clips.items():
            at = [i for i, row in enumerate(rows) if row.group == group]
            scores.update(images[at], [rows[i].prompt for i in at])
        rest = [i for i, row in enumerate(rows) if row.group in RETAINED]
        own = getattr(judgement, "features", None)
        if rest and (self.network is not None or own is not None):
            found = own[rest] if self.network is None and own is not None else self.network(images[rest])
            self.features.update(found, [rows[i].prompt for i in rest])
        self.kept |= {
            key_of(row): (image * 255).round().to(torch.uint8)
            for row, image in zip(rows, images, strict=True)
            if key_of(row) in keep
        }


def check_size(model: Editable, benchmark: Benchmark) -> None:
    """Raises `EffaceError` unless the model draws pictures of the size that the benchmark's detectors were made for."""
    for name in (benchmark.detector, benchmark.clip):
        wanted, side = SIDES.get(name.partition("@")[0]), model.image_size
        if wanted is not None and side != wanted:
            raise EffaceError(
                f"{name} sees pictures of {wanted} x {wanted}; {model.name} draws {side} x {side}: use another benchmark"
            )


def asked(row: Row) -> Asked:
    """A row as the metrics know it."""
    return Asked(row.prompt, row.seed, row.group, row.shows)
