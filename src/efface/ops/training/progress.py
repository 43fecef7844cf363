"""Progress of a run: a bar on a terminal, a line every half minute elsewhere, or no output."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, TextIO

from efface.core.durations import rounded_duration

if TYPE_CHECKING:
    from rich.console import Console

INTERVAL = 30.0
"""Seconds between two lines without a terminal."""
_OTHER_COLUMNS = 56
"""Width of a bar without its losses."""


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

    def note(self, text: str) -> None:
        """Shows one line, such as the expected time."""
        ...


class Silent:
    """A `Progress` without output."""

    def start(self, phase: str, total: int, done: int) -> None:
        """Does nothing."""

    def update(self, done: int, losses: Mapping[str, float]) -> None:
        """Does nothing."""

    def stop(self) -> None:
        """Does nothing."""

    def note(self, text: str) -> None:
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
        from rich.table import Column

        console = console or Console(stderr=True)
        one_line = Column(no_wrap=True)
        losses = Column(no_wrap=True, overflow="ellipsis", max_width=max(10, console.width - _OTHER_COLUMNS))
        self._bar = Bar(
            TextColumn("{task.description}", table_column=one_line),
            BarColumn(bar_width=10),
            MofNCompleteColumn(table_column=one_line),
            TimeRemainingColumn(table_column=one_line),
            TextColumn("{task.fields[losses]}", table_column=losses),
            console=console,
        )
        self._task = self._bar.add_task("", total=None, visible=False, losses="")

    def start(self, phase: str, total: int, done: int) -> None:
        """Shows the bar."""
        self._bar.reset(self._task, total=total, completed=done, description=phase, visible=True, losses="")
        self._bar.start()

    def update(self, done: int, losses: Mapping[str, float]) -> None:
        """Advances the bar and shows the losses beside it."""
        self._bar.update(self._task, completed=done, losses=describe_losses(losses))

    def stop(self) -> None:
        """Ends the bar's updates; the last state stays on the terminal."""
        self._bar.stop()

    def note(self, text: str) -> None:
        """Prints the line above the bar."""
        self._bar.console.print(text, highlight=False, soft_wrap=True)


class LineProgress:
    """A line every half minute, for logs; phases that end sooner are not shown.

    Args:
        stream: stream to write to; standard error by default.
        clock: returns seconds.
        interval: seconds between two lines.
    """

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic, interval: float = INTERVAL
    ) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._interval = interval
        self._phase, self._total = "", 0
        self._first_done, self._done = 0, 0
        self._started = self._shown = clock()

    def start(self, phase: str, total: int, done: int) -> None:
        """Remembers the phase."""
        self._phase, self._total = phase, total
        self._first_done = self._done = done
        self._started = self._shown = self._clock()

    def update(self, done: int, losses: Mapping[str, float]) -> None:
        """Prints steps, time left and losses if the last line is half a minute old."""
        self._done = done
        now = self._clock()
        if now - self._shown < self._interval or done <= self._first_done:
            return
        self._shown = now
        left = (now - self._started) / (done - self._first_done) * (self._total - done)
        numbers = f" ({text})" if (text := describe_losses(losses)) else ""
        self.note(f"{self._phase}: {done} of {self._total}, about {rounded_duration(left)} left{numbers}")

    def stop(self) -> None:
        """Prints the duration of a phase of which a line was printed."""
        if self._shown > self._started:
            seconds = rounded_duration(self._clock() - self._started)
            self.note(f"{self._phase}: {self._done} of {self._total} in {seconds}")

    def note(self, text: str) -> None:
        """Prints the line."""
        print(text, file=self._stream, flush=True)


def terminal_progress() -> Progress:
    """Returns a bar if standard error is a terminal, else lines."""
    return RichProgress() if sys.stderr.isatty() else LineProgress()


def describe_losses(losses: Mapping[str, float]) -> str:
    """Returns the numbers by name, such as ``loss 0.1234  erase 0.1``."""
    return "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
