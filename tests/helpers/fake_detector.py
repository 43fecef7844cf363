"""A fake detector whose labels the tests set, and detections made with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import torch
from torch import Tensor

from efface.metrics.detections import Detections, EvalPrompt, TargetClasses

HEADS = ("object", "background", "style")
CATS = TargetClasses("object", {"cat", "lion"})
CAT = "cat/snow/photo"
EMPTY = "nothing/snow/photo"
Row = tuple[str, str, str]
"""Group, expected and reported classes of one image."""


class FakeDetector:
    """Reports the labels in `next_labels` for the next images."""

    def __init__(self, version: str = "1", **thresholds: float) -> None:
        self.id = f"fake@{version}"
        self.thresholds: Mapping[str, float] = dict.fromkeys(HEADS, 0.9) | thresholds
        self.next_labels: list[str] = []

    def __call__(self, images: Tensor) -> SimpleNamespace:
        rows = [line.split("/") for line in self.next_labels]
        assert len(rows) == len(images)
        return SimpleNamespace(**{head: [row[i] for row in rows] for i, head in enumerate(HEADS)})


def eval_prompt(line: str, group: str, seed: int) -> EvalPrompt:
    """Expect the classes of ``object/background/style``; ``-`` leaves a head open."""
    return EvalPrompt(
        line, seed, group, {head: word for head, word in zip(HEADS, line.split("/"), strict=True) if word != "-"}
    )


def scene(label: str, n: int = 40, group: str = "name", expected: str = CAT) -> list[Row]:
    return [(group, expected, label)] * n


def fake_detections(rows: Sequence[Row], detector: FakeDetector | None = None) -> Detections:
    """Detections from rows (group, expected, reported); the seed counts the rows of a prompt.

    A row is such as ``("name", "cat/snow/photo", "dog/snow/photo")``.
    """
    detector = detector or FakeDetector()
    table, counts = Detections(detector), dict[tuple[str, str], int]()
    prompts = []
    for group, line, _ in rows:
        counts[group, line] = counts.get((group, line), -1) + 1
        prompts.append(eval_prompt(line, group, counts[group, line]))
    detector.next_labels = [labels for _, _, labels in rows]
    table.update(torch.rand(len(rows), 3, 2, 2), prompts)
    return table
