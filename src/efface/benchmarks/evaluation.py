"""What an evaluation leaves behind, so that others can look again: scores, what was seen in every picture, and some of the pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from efface.core.io import atomic_folder
from efface.core.result import Result
from efface.core.serialization import json_bytes, plain
from efface.core.subsample import spread
from efface.metrics.detections import Sightings
from efface.metrics.interference import Interfered

from .benchmark import Row
from .image_cache import encoded

RESULT, SEEN, PICTURES, INTERFERENCE = "result.json", "sightings.json", "pictures.json", "interference.json"
SHOWN = 12
"""Pairs of pictures a group that are kept."""

Key = tuple[str, str, int]


@dataclass
class Evaluation:
    """One evaluation.

    Attributes:
        result: scores and verdict.
        rows: every picture that was judged.
        before: what was seen before, None where the base model was not drawn (attacks). after: what was seen after.
        interference: one row for each other object.
        kept: bytes ``(3, H, W)`` of the pictures that are kept, before and after, by group, prompt and seed.
        folder: where it was saved.
    """

    result: Result
    rows: Sequence[Row]
    before: Sightings | None
    after: Sightings
    interference: tuple[Interfered, ...] = ()
    kept: Mapping[Key, tuple[Tensor | None, Tensor]] = field(default_factory=dict, repr=False)
    folder: Path | None = None

    def save(self, folder: Path) -> Evaluation:
        """Writes the folder, whole or not at all, in place of an earlier one."""
        with atomic_folder(folder, replace=True) as new:
            (new / RESULT).write_bytes(json_bytes(plain(self.result.to_dict())))
            (new / SEEN).write_bytes(json_bytes({"rows": [self._seen(row) for row in self.rows]}))
            (new / INTERFERENCE).write_bytes(json_bytes(plain([row.plain() for row in self.interference])))
            (new / "pictures").mkdir()
            (new / PICTURES).write_bytes(
                json_bytes([self._picture(row, new) for row in self.rows if key_of(row) in self.kept])
            )
        self.folder = folder
        return self

    def _seen(self, row: Row) -> dict[str, Any]:
        asked = {head: list(classes) for head, classes in row.shows.items()}
        text = f"{row.text} (embeddings near: {row.words})" if row.soft else row.text
        data: dict[str, Any] = {
            "group": row.group,
            "prompt": row.prompt,
            "text": text,
            "seed": row.seed,
            "asked": asked,
        }
        return data | {"before": _labels(self.before, row), "after": _labels(self.after, row)}

    def _picture(self, row: Row, folder: Path) -> dict[str, Any]:
        data, number = self._seen(row), list(self.kept).index(key_of(row))
        data["seen_before"], data["seen_after"] = data.pop("before"), data.pop("after")
        for when, picture in zip(("before", "after"), self.kept[key_of(row)], strict=True):
            name = f"pictures/{number:03}-{when}.png"
            if picture is not None:
                (folder / name).write_bytes(encoded(picture))
            data[when] = name if picture is not None else None
        return data


def key_of(row: Row) -> Key:
    """Group, prompt and seed."""
    return row.group, row.prompt, row.seed


def shown(rows: Sequence[Row]) -> list[Row]:
    """The rows whose pictures are kept: `SHOWN` a group, evenly spread."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return [row for group in groups.values() for row in spread(group, SHOWN)]


def _labels(sightings: Sightings | None, row: Row) -> dict[str, str] | None:
    if sightings is None:
        return None
    seen = sightings.find(key_of(row))
    return None if seen is None else dict(seen.seen)
