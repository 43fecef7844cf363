"""What an evaluation leaves behind, so that others can look again: scores, what was seen in every image, and some of the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from efface.core.io import atomic_folder
from efface.core.result import Result
from efface.core.serialization import json_bytes, to_jsonable
from efface.core.subsample import evenly_spaced
from efface.metrics.detections import Detections
from efface.metrics.interference import ObjectInterference

from .benchmark import EvalSample
from .image_cache import encoded

RESULT, SEEN, IMAGES, INTERFERENCE = "result.json", "detections.json", "images.json", "interference.json"
IMAGES_TO_SAVE = 12
"""Pairs of images a group that are kept."""

Key = tuple[str, str, int]


@dataclass
class Evaluation:
    """One evaluation.

    Attributes:
        result: scores and verdict.
        rows: every image that was judged.
        before: what was seen before, None where the base model was not drawn (attacks). after: what was seen after.
        interference: one row for each other object.
        kept: bytes ``(3, H, W)`` of the images that are kept, before and after, by group, prompt and seed.
        folder: where it was saved.
    """

    result: Result
    rows: Sequence[EvalSample]
    before: Detections | None
    after: Detections
    interference: tuple[ObjectInterference, ...] = ()
    kept: Mapping[Key, tuple[Tensor | None, Tensor]] = field(default_factory=dict, repr=False)
    folder: Path | None = None

    def save(self, folder: Path) -> Evaluation:
        """Writes the folder, whole or not at all, in place of an earlier one."""
        with atomic_folder(folder, replace=True) as new:
            (new / RESULT).write_bytes(json_bytes(to_jsonable(self.result.to_dict())))
            (new / SEEN).write_bytes(json_bytes({"rows": [self._seen(row) for row in self.rows]}))
            (new / INTERFERENCE).write_bytes(json_bytes(to_jsonable([row.to_dict() for row in self.interference])))
            (new / "images").mkdir()
            (new / IMAGES).write_bytes(
                json_bytes([self._image(row, new) for row in self.rows if key_of(row) in self.kept])
            )
        self.folder = folder
        return self

    def _seen(self, row: EvalSample) -> dict[str, Any]:
        asked = {head: list(classes) for head, classes in row.expected.items()}
        text = f"{row.text} (embeddings near: {row.nearest_tokens})" if row.soft else row.text
        data: dict[str, Any] = {
            "group": row.group,
            "prompt": row.prompt,
            "text": text,
            "seed": row.seed,
            "asked": asked,
        }
        return data | {"before": _labels(self.before, row), "after": _labels(self.after, row)}

    def _image(self, row: EvalSample, folder: Path) -> dict[str, Any]:
        data, number = self._seen(row), list(self.kept).index(key_of(row))
        data["seen_before"], data["seen_after"] = data.pop("before"), data.pop("after")
        for when, image in zip(("before", "after"), self.kept[key_of(row)], strict=True):
            name = f"images/{number:03}-{when}.png"
            if image is not None:
                (folder / name).write_bytes(encoded(image))
            data[when] = name if image is not None else None
        return data


def key_of(row: EvalSample) -> Key:
    """Group, prompt and seed."""
    return row.group, row.prompt, row.seed


def rows_to_save(rows: Sequence[EvalSample]) -> list[EvalSample]:
    """The rows whose images are kept: `SHOWN` a group, evenly spread."""
    groups: dict[str, list[EvalSample]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return [row for group in groups.values() for row in evenly_spaced(group, IMAGES_TO_SAVE)]


def _labels(detections: Detections | None, row: EvalSample) -> dict[str, str] | None:
    if detections is None:
        return None
    seen = detections.find(key_of(row))
    return None if seen is None else dict(seen.judgement)
