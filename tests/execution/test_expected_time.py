"""The expected time of an erasure."""

from __future__ import annotations

import sys

import pytest

from efface.core.costs import PROBE_SECONDS, expected_seconds, pocket_costs
from efface.core.registry import METHODS
from efface.execution.expected_time import announce_duration
from efface.ops.training.progress import Silent


class Notes(Silent):
    """Remembers the notes."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def test_the_time_grows_with_samples_and_with_the_time_of_an_image() -> None:
    pocket = {"steps": 200, "batch_size": 4}
    assert expected_seconds("esd", pocket, pocket, PROBE_SECONDS) == pocket_costs()["esd"]
    doubled = expected_seconds("esd", {**pocket, "steps": 400}, pocket, 3 * PROBE_SECONDS)
    assert doubled == pytest.approx(6 * pocket_costs()["esd"])
    assert expected_seconds("unmeasured", pocket, pocket, 1.0) is None


def test_only_a_long_run_is_announced() -> None:
    notes, function = Notes(), METHODS.get("uce")
    config = sys.modules["efface.methods.uce"].Config()
    announce_duration(function, config, "pocket", PROBE_SECONDS, notes)
    assert notes.texts == []
    announce_duration(function, config, "sd15", 1000 * PROBE_SECONDS, notes)
    assert notes.texts == ["uce on sd15: about 3 min, estimated from its cost on pocket"]
