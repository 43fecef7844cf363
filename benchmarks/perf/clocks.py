"""Clocks and peak memory for `full_size.py`."""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch


@dataclass
class Clock:
    """Seconds and counts by name, after the device has finished; CPU time where ``busy``, else wall time.

    Attributes:
        device: the device to wait for.
        seconds: seconds by name.
        counts: counts by name.
        peak: peak memory of the timed work in GB; 0 if it was not measured.
    """

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    peak: float = 0.0
    busy: ClassVar[bool] = False

    @contextmanager
    def measure(self, name: str, count: int = 1) -> Iterator[None]:
        """Add the seconds of the body."""
        began = self.now()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + self.now() - began
        self.counts[name] = self.counts.get(name, 0) + count

    def now(self) -> float:
        """Current time in seconds, after the device has finished its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.process_time() if self.busy else time.perf_counter()

    def wrapped(self, name: str, function: Callable[..., Any], sampling: Clock | None = None) -> Callable[..., Any]:
        """The function with its seconds added up; its sampling time counts as ``<name>: sampling``."""

        def call(*args: Any, **kwargs: Any) -> Any:
            before = sampling.seconds.get("sampling", 0.0) if sampling else 0.0
            with self.measure(name):
                result = function(*args, **kwargs)
            after = sampling.seconds.get("sampling", 0.0) if sampling else 0.0
            self.seconds[f"{name}: sampling"] = self.seconds.get(f"{name}: sampling", 0.0) + after - before
            return result

        return call


class StepTimes:
    """Progress of a run that records and prints the seconds of each step."""

    def __init__(self, clock: Clock, say: Callable[[str], None]) -> None:
        self.clock = clock
        self.say = say
        self.steps: list[float] = []
        self.began = 0.0

    def start(self, phase: str, total: int, done: int) -> None:
        """Start the first step."""
        self.began = self.clock.now()

    def update(self, done: int, losses: Mapping[str, float]) -> None:
        """Record a finished step."""
        now = self.clock.now()
        self.steps.append(now - self.began)
        self.say(f"step {done}: {self.steps[-1]:.2f} s")
        self.began = now

    def stop(self) -> None:
        """Do nothing."""


class Peak:
    """Peak memory since its creation: CUDA allocations, or on a CPU the resident memory of the process."""

    def __init__(self, device: torch.device) -> None:
        gc.collect()
        self.device, self.exact = device, True
        if device.type == "cuda":
            torch.cuda.init()  # type: ignore[no-untyped-call]  # else there are no statistics to reset yet
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            return
        try:
            Path("/proc/self/clear_refs").write_text("5")  # Linux: resets the peak
        except OSError:
            self.exact = False

    @property
    def what(self) -> str:
        """Name of the measured quantity."""
        return (
            "torch.cuda.max_memory_allocated" if self.device.type == "cuda" else "peak resident memory of the process"
        )

    def gigabytes(self) -> float:
        """The peak so far, in GB."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e9
        if not self.exact:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e9
