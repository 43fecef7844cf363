"""States how long an erasure will take before it starts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from efface.core.costs import expected_seconds
from efface.core.durations import rounded_duration
from efface.ops.training.progress import Progress

from .configuration import resolve_config

SHORTEST = 20.0
"""Seconds below which nothing is stated."""


def with_expected_time(
    progress: Progress | None, function: Any, config: Any, model: str, probe_seconds: float
) -> Progress | None:
    """Returns a display that states the expected time of a method when its first loop begins.

    The time is estimated from the method's cost on pocket and this machine's speed.

    Args:
        progress: progress display; None shows nothing.
        function: a registered method.
        config: its configuration.
        model: name of the model.
        probe_seconds: time of one image in two steps with the model on this machine.
    """
    method = function.__name__
    pocket_config, _ = resolve_config(function, None, "pocket", {})
    seconds = expected_seconds(method, asdict(config), asdict(pocket_config), probe_seconds)
    if progress is None or seconds is None or seconds < SHORTEST:
        return progress
    text = f"{method} on {model}: about {rounded_duration(seconds)}, estimated from its cost on pocket"
    return _WithNote(progress, text)


class _WithNote:
    """Shows a note when the first loop begins, so that an error before it stays alone."""

    def __init__(self, progress: Progress, text: str) -> None:
        self._progress = progress
        self._text = text
        self.update = progress.update
        self.stop = progress.stop
        self.note = progress.note

    def start(self, phase: str, total: int, done: int) -> None:
        """Shows the note once, then the loop."""
        if self._text:
            self._progress.note(self._text)
            self._text = ""
        self._progress.start(phase, total, done)
