"""Interrupts a training loop, like Ctrl-C."""

from __future__ import annotations

from collections.abc import Mapping

from efface.ops.training.progress import Silent


class InterruptAfter(Silent):
    """Raises ``KeyboardInterrupt`` after a number of steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def update(self, done: int, losses: Mapping[str, float]) -> None:
        if losses and done == self.steps:
            raise KeyboardInterrupt
