"""What a model generates instead of the concept, and instead of objects that should have stayed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from efface.detectors.abstention import CANNOT_TELL
from efface.metrics.detections import Detection, Detections
from efface.metrics.pairing import paired_detections
from efface.pocket_world import NOTHING

from .benchmark import Benchmark

MIN_IMAGES = 2
"""Least number of images that are wrong, or that show the same other class."""
MIN_SHARE = 0.5
"""Least share of the images that were right before."""


@dataclass(frozen=True)
class Substitution:
    """A class that took the place of what prompts ask for.

    Attributes:
        asked: the concept, or the class that the prompts ask for.
        shown: the class that the detector reports most often instead; empty if it is not the same in enough images.
        count: number of images that show it, or that are wrong if `shown` is empty.
        n: number of images that were right before the erasure.
    """

    asked: str
    shown: str
    count: int
    n: int

    def __str__(self) -> str:
        change = f"now shows {self.shown}" if self.shown else "is lost"
        return f"{self.asked} {change} in {self.count} of {self.n} images"


def find_substitutions(before: Detections, after: Detections, benchmark: Benchmark) -> tuple[Substitution, ...]:
    """Finds what replaced the concept, and the retained class that is wrong in most images.

    Images that were wrong before do not count.

    Args:
        before: detections of the base model.
        after: detections with the erasure, of the same prompts and seeds.
        benchmark: the benchmark of both.
    """
    head = benchmark.head
    concept = _substitution(benchmark.concept.name, paired_detections(before, after, ("name",)), head)
    by_class: dict[str, list[tuple[Detection, Detection]]] = {}
    for pair in paired_detections(before, after, ("near", "other")):
        expected = pair[0].prompt.expected_classes.get(head, ())
        if len(expected) == 1:
            by_class.setdefault(next(iter(expected)), []).append(pair)
    retained = [item for name, pairs in by_class.items() if (item := _substitution(name, pairs, head))]
    worst = max(retained, key=lambda item: (item.count, item.shown), default=None)
    found = [concept] if concept and concept.shown else []  # a concept that is merely lost is erased
    return (*found, worst) if worst else tuple(found)


def _substitution(asked: str, pairs: Sequence[tuple[Detection, Detection]], head: str) -> Substitution | None:
    """What became of the images that were right before; None if too few of them are wrong now."""
    right = [(old, new) for old, new in pairs if old.matches_expected([head])]
    wrong = [new.labels[head] for _, new in right if not new.matches_expected([head])]
    enough = max(MIN_IMAGES, MIN_SHARE * len(right))
    if len(wrong) < enough:
        return None
    counts = Counter(label for label in wrong if label not in (CANNOT_TELL, NOTHING))
    shown, count = counts.most_common(1)[0] if counts else ("", 0)
    if count < enough:
        shown, count = "", len(wrong)
    return Substitution(asked, shown, count, len(right))
