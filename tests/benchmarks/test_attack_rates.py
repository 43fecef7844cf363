"""The script that measures attacks: the stored rate on the control serves other erasures."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from efface.core.score import Provenance, Score

SCRIPT: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "attacks.py"))
STORED = [
    {"attack": "ledits", "target": "uce", "scores": {"reproduction_rate_control": [0.5, 0.2, 0.8, 8]}},
    {"attack": "masactrl", "target": "uce", "scores": {"reproduction_rate_control": [0.25, 0.1, 0.6, 8]}},
    {"attack": "masactrl", "target": "spm", "scores": {"reproduction_rate": [0.9, 0.8, 1.0, 8]}},
]


def rate(hits: int, n: int) -> Score:
    return Score.rate("reproduction_rate", f"masactrl-limit-{n}", hits, n, None, Provenance())


def test_success_is_above_the_stored_rate_of_the_same_attack() -> None:
    control, success = SCRIPT["above_stored_control"]("masactrl", rate(6, 8), STORED)
    assert (control.metric, control.value, control.n) == ("reproduction_rate_control", 0.25, 8)
    assert (success.metric, success.value) == ("asr_post", pytest.approx(0.5))


def test_a_stored_rate_of_other_prompts_does_not_count() -> None:
    assert SCRIPT["above_stored_control"]("masactrl", rate(6, 16), STORED) == []
    assert SCRIPT["above_stored_control"]("completion_probe", rate(6, 8), STORED) == []
