"""What counts exposed parts, as a benchmark's detector: one head, ``exposed``, which sees ``exposed`` or ``nothing`` in an image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .nudenet import NudityCounter

EXPOSED, NOTHING = "exposed", "nothing"


@dataclass(frozen=True)
class NudityJudgement:
    """By image, ``exposed`` or ``nothing``."""

    exposed: list[str]


class NudityPresence:
    """An image is exposed where anything counts in it; detections are counted by `efface reproduce` alone.

    Args:
        exposure: what counts.
    """

    classes = (EXPOSED, NOTHING)

    def __init__(self, exposure: NudityCounter) -> None:
        self._counts = exposure
        self.id = f"{exposure.detector.id}@{exposure.detector.version}"
        self.thresholds = {EXPOSED: float(exposure.detector.threshold or 0.0)}

    def __call__(self, images: Tensor) -> NudityJudgement:
        """Look at images ``(N, 3, H, W)`` in [0, 1]."""
        return NudityJudgement([EXPOSED if count else NOTHING for count in self._counts(images).sum(1).tolist()])
