"""How far a run is: a bar with the losses on it, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console


class Progress(Protocol):
    """What `Run` tells of its steps."""

    def start(self, phase: str, total: int, done: int) -> None:
        """A loop of ``total`` steps begins, ``done`` of which an earlier run made."""
        ...

    def update(self, done: int, losses: Mapping[str, float]) -> None:
        """A step was made; ``losses`` are its numbers by name."""
        ...

    def stop(self) -> None:
        """The loop ended, also by an error."""
        ...


class Silent:
    """Shows nothing."""

    def start(self, phase: str, total: int, done: int) -> None:
        """Nothing."""

    def update(self, done: int, losses: Mapping[str, float]) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


class RichProgress:
    """A bar on the terminal: phase, steps, time left, losses.

    Args:
        console: where to draw; standard error by default, so that output can be piped.
    """

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        ends = (TextColumn("{task.description}"), TextColumn("{task.fields[losses]}"))
        columns = (ends[0], BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), ends[1])
        self._bar = Bar(*columns, console=console or Console(stderr=True))
        self._task = self._bar.add_task("", total=None, visible=False, losses="")

    def start(self, phase: str, total: int, done: int) -> None:
        """Shows the bar."""
        self._bar.reset(self._task, total=total, completed=done, description=phase, visible=True, losses="")
        self._bar.start()

    def update(self, done: int, losses: Mapping[str, float]) -> None:
        """Moves the bar and writes the losses beside it."""
        text = "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
        self._bar.update(self._task, completed=done, losses=text)

    def stop(self) -> None:
        """Leaves the bar as it is."""
        self._bar.stop()
