"""What looks at a benchmark's pictures as they pass: the judge once a picture, CLIP and features where they are scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from efface.core.errors import EffaceError, UnknownName
from efface.detectors.clip_score import load_clip_score
from efface.detectors.judge import load_judge
from efface.metrics.base import Asked, Sightings
from efface.metrics.clip_score import ClipScores
from efface.metrics.kid import Features
from efface.metrics.rates import RETAINED
from efface.models.editable import Editable

from .evidence import Key, key_of
from .protocol import Benchmark, Row

DETECTORS: dict[str, Callable[[], Any]] = {"pocket-judge": load_judge}
SIDES: dict[str, int] = {"pocket-judge": 64}
CLIPS: dict[str, Callable[[], Any]] = {"pocket-clip": load_clip_score}


@dataclass
class Watch:
    """What looks at the pictures of one model as they pass."""

    seen: Sightings
    clips: dict[str, ClipScores]
    features: Features
    look: Any
    kept: dict[Key, Tensor]

    @classmethod
    def of(cls, benchmark: Benchmark) -> Watch:
        """A watch with the benchmark's detectors."""
        for kind, name, known in (("detector", benchmark.detector, DETECTORS), ("clip", benchmark.clip, CLIPS)):
            if name not in known:
                raise UnknownName(kind, name, known)
        look, clip = DETECTORS[benchmark.detector](), CLIPS[benchmark.clip]()
        return cls(Sightings(look), {group: ClipScores(clip) for group in RETAINED}, Features(), look, {})

    def again(self) -> Watch:
        """A new watch with the same detectors."""
        clips = {group: ClipScores(scores.scorer) for group, scores in self.clips.items()}
        return Watch(Sightings(self.look), clips, Features(), self.look, {})

    def update(self, rows: Sequence[Row], images: Tensor, keep: set[Key]) -> None:
        """Look at one batch ``(B, 3, H, W)`` in [0, 1]."""
        judgement = self.seen.update(images, [asked(row) for row in rows])
        for group, scores in self.clips.items():
            at = [i for i, row in enumerate(rows) if row.group == group]
            scores.update(images[at], [rows[i].prompt for i in at])
        rest = [i for i, row in enumerate(rows) if row.group in RETAINED]
        if rest:
            self.features.update(judgement.features[rest], [rows[i].prompt for i in rest])
        self.kept |= {
            key_of(row): (image * 255).round().to(torch.uint8) for row, image in zip(rows, images, strict=True) if key_of(row) in keep
        }


def check_size(model: Editable, benchmark: Benchmark) -> None:
    """Raises `EffaceError` unless the model draws pictures of the size that the benchmark's detector was made for."""
    wanted = SIDES.get(benchmark.detector)
    if wanted is not None and model.image_size != wanted:
        side = model.image_size
        raise EffaceError(
            f"{benchmark.detector} sees pictures of {wanted} x {wanted}; {model.name} draws {side} x {side}: use another benchmark"
        )


def asked(row: Row) -> Asked:
    """A row as the metrics know it."""
    return Asked(row.prompt, row.seed, row.group, row.shows)
