"""The expected time of an erasure."""

from __future__ import annotations

import sys

import pytest

from efface.core.costs import PROBE_SECONDS, expected_seconds, pocket_costs
from efface.core.registry import METHODS
from efface.execution.expected_time import with_expected_time
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


def test_only_a_long_run_is_announced_once_and_when_it_begins() -> None:
    function, notes = METHODS.get("uce"), Notes()
    config = sys.modules["efface.methods.uce"].Config()
    assert with_expected_time(notes, function, config, "pocket", PROBE_SECONDS) is notes
    announcing = with_expected_time(notes, function, config, "sd15", 1000 * PROBE_SECONDS)
    assert announcing is not None
    assert notes.texts == []
    for _ in range(2):
        announcing.start("train", 1, 0)
        announcing.stop()
    assert notes.texts == ["uce on sd15: about 3 min, estimated from its cost on pocket"]
