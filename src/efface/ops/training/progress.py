"""Progress of a run: a terminal bar with the losses, or no output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console


class Progress(Protocol):
    """Receives the progress of loops."""

    def start(self, phase: str, total: int, done: int) -> None:
        """A loop of ``total`` steps begins, of which an earlier run completed ``done``."""
        ...

    def update(self, done: int, losses: Mapping[str, float]) -> None:
        """``done`` steps are complete; ``losses`` holds the last step's numbers by name."""
        ...

    def stop(self) -> None:
        """The loop ended, with or without an error."""
        ...


class Silent:
    """A `Progress` without output."""

    def start(self, phase: str, total: int, done: int) -> None:
        """Does nothing."""

    def update(self, done: int, losses: Mapping[str, float]) -> None:
        """Does nothing."""

    def stop(self) -> None:
        """Does nothing."""


class RichProgress:
    """A bar on the terminal with phase, steps, remaining time and losses.

    Args:
        console: console to write to; standard error by default, so that standard output can be piped.
    """

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
            console=console or Console(stderr=True),
        )
        self._task = self._bar.add_task("", total=None, visible=False, losses="")

    def start(self, phase: str, total: int, done: int) -> None:
        """Shows the bar."""
        self._bar.reset(self._task, total=total, completed=done, description=phase, visible=True, losses="")
        self._bar.start()

    def update(self, done: int, losses: Mapping[str, float]) -> None:
        """Advances the bar and shows the losses beside it."""
        text = "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
        self._bar.update(self._task, completed=done, losses=text)

    def stop(self) -> None:
        """Ends the bar's updates; the last state stays on the terminal."""
        self._bar.stop()
