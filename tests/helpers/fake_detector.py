"""Made-up detectors, and images whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import torch
from torch import Tensor

from efface.metrics.detections import Detections, EvalPrompt, Expected

HEADS = ("object", "background", "style")
CATS = Expected("object", {"cat", "lion"})


class Told:
    """Sees what it was told that the next images show."""

    def __init__(self, version: str = "1", **thresholds: float) -> None:
        self.id = f"told@{version}"
        self.thresholds: Mapping[str, float] = dict.fromkeys(HEADS, 0.9) | thresholds
        self.next: list[str] = []

    def __call__(self, images: Tensor) -> SimpleNamespace:
        rows = [line.split("/") for line in self.next]
        assert len(rows) == len(images)
        return SimpleNamespace(**{head: [row[i] for row in rows] for i, head in enumerate(HEADS)})


def ask(line: str, group: str, seed: int) -> EvalPrompt:
    """``cat/snow/photo`` asks for all three; ``-`` asks nothing of a head."""
    return EvalPrompt(
        line, seed, group, {head: word for head, word in zip(HEADS, line.split("/"), strict=True) if word != "-"}
    )


def told(rows: Sequence[tuple[str, str, str]], detector: Told | None = None) -> Detections:
    """From rows of group, asked, seen: ``("name", "cat/snow/photo", "dog/snow/photo")``; the seed counts the rows of a prompt."""
    detector = detector or Told()
    table, counts = Detections(detector), dict[tuple[str, str], int]()
    asked = []
    for group, line, _ in rows:
        counts[group, line] = counts.get((group, line), -1) + 1
        asked.append(ask(line, group, counts[group, line]))
    detector.next = [seen for _, _, seen in rows]
    table.update(torch.zeros(len(rows), 3, 1, 1), asked)
    return table
