"""What a method costs on pocket, as measured, and how long it may therefore take elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

PROBE_SECONDS = 0.12
"""Seconds of the probe (`efface.execution.effect_check.check_base_model` on pocket) on a core of the costs' machine."""


@cache
def pocket_costs() -> Mapping[str, float]:
    """Returns the seconds of one erasure from pocket on that core, by method; a method may be missing."""
    text = files("efface.core").joinpath("data/pocket_costs.json").read_text(encoding="utf-8")
    costs: dict[str, float] = json.loads(text)
    return costs


def expected_seconds(
    method: str, config: Mapping[str, Any], pocket_config: Mapping[str, Any], probe_seconds: float
) -> float | None:
    """Estimates the duration of an erasure from its cost on pocket.

    The cost is scaled with the number of training samples and with the time of one image in two steps: a rough figure,
    since a method may spend its time on the text encoder, or on searches of another length than on pocket.

    Args:
        method: name of the method.
        config: its settings.
        pocket_config: its settings on pocket, whose cost was measured.
        probe_seconds: time of one image in two steps with the model on this machine.

    Returns:
        Seconds; None if the method was not measured.
    """
    cost = pocket_costs().get(method)
    if cost is None:
        return None
    return cost * probe_seconds / PROBE_SECONDS * _num_samples(config) / _num_samples(pocket_config)


def _num_samples(config: Mapping[str, Any]) -> float:
    """Returns the number of training samples, 1 for a method without training steps."""
    return float(config.get("steps", 1)) * float(config.get("batch_size", 1))
