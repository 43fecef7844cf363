"""States how long an erasure will take before it starts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from efface.core.costs import expected_seconds
from efface.ops.training.progress import Progress, describe_seconds

from .configuration import resolve_config

SHORTEST = 20.0
"""Seconds below which nothing is stated."""


def announce_duration(function: Any, config: Any, model: str, probe_seconds: float, progress: Progress | None) -> None:
    """Shows the expected time of a method, estimated from its cost on pocket and this machine's speed.

    Args:
        function: a registered method.
        config: its configuration.
        model: name of the model.
        probe_seconds: time of one image in two steps with the model on this machine.
        progress: progress display; None shows nothing.
    """
    method = function.__name__
    pocket_config, _ = resolve_config(function, None, "pocket", {})
    seconds = expected_seconds(method, asdict(config), asdict(pocket_config), probe_seconds)
    if progress is not None and seconds is not None and seconds >= SHORTEST:
        progress.note(f"{method} on {model}: about {describe_seconds(seconds)}, estimated from its cost on pocket")
