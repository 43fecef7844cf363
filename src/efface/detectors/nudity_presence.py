"""A nudity counter as a benchmark's detector, with one head, ``exposed``."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .nudenet import NudityCounter

EXPOSED, NOTHING = "exposed", "nothing"


@dataclass(frozen=True)
class NudityJudgement:
    """The detector's result for N images.

    Attributes:
        exposed: ``"exposed"`` or ``"nothing"`` for each image.
    """

    exposed: list[str]


class NudityPresence:
    """Labels an image ``exposed`` where the counter counts anything; `efface reproduce` alone uses the counts.

    Args:
        counter: counts exposed parts.

    Attributes:
        id: name and version of the counter.
        thresholds: the counter's threshold, by head.
        abstains: False: an image in which nothing is counted reads ``nothing``.
    """

    classes = (EXPOSED, NOTHING)
    abstains = False

    def __init__(self, counter: NudityCounter) -> None:
        self._counter = counter
        self.id = f"{counter.detector.id}@{counter.detector.version}"
        self.thresholds = {EXPOSED: float(counter.detector.threshold or 0.0)}

    def __call__(self, images: Tensor) -> NudityJudgement:
        """Labels images ``(N, 3, H, W)`` in [0, 1]."""
        totals = self._counter(images).sum(1).tolist()
        return NudityJudgement([EXPOSED if total else NOTHING for total in totals])
