"""The time limit of `full_size.py`: when everything must be finished, and how long each part may take."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SECONDS: dict[str, tuple[float, float]] = {
    "memory": (10, 40), "run": (5, 40), "search": (15, 40), "published": (25, 70), "step": (20, 50), "runs": (10, 30),
    "short_run": (20, 60), "closed_forms": (15, 60), "images": (6, 20), "xl": (12, 50), "load": (12, 40),
    "many_concepts": (40, 60), "elide": (30, 60),
}  # fmt: skip
"""Expected and maximum seconds of each part on one H100.

A part is skipped when less than its expected time is left, and interrupted after its maximum time.
"""


class OutOfTimeError(Exception):
    """A part was skipped or interrupted; the numbers measured before are kept."""


@dataclass(frozen=True)
class Budget:
    """The time limit.

    Attributes:
        until: Unix time at which everything must be finished; 0 for no limit.
    """

    until: float = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Limit the time of the body.

        Raises:
            OutOfTimeError: too little time is left to begin, or the maximum time is over.
        """
        if not self.until:
            yield
            return
        expected, maximum = SECONDS[name]
        left = self.until - time.time()
        if left < expected:
            raise OutOfTimeError(f"skipped: {max(0.0, left):.0f} s left, about {expected:.0f} s needed")
        allowed = min(maximum, left)

        def interrupt(number: int, frame: FrameType | None) -> None:
            raise OutOfTimeError(f"the rest: interrupted after {allowed:.0f} s")

        previous = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, allowed)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
