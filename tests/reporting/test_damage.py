"""Damaged evidence raises a one-line error that names the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from artifact_folder import EVALUATION
from helpers.damage import damage

from efface.core.errors import EffaceError
from efface.reporting.page import write_report


def check_refused(artifact: Path, *words: str) -> None:
    with pytest.raises(EffaceError) as caught:
        write_report(artifact)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (artifact / "evidence" / "report.html").exists()


def rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def test_truncated_result(artifact: Path) -> None:
    path = artifact / "evidence" / EVALUATION / "result.json"
    path.write_text(path.read_text()[:200])
    check_refused(artifact, str(path), "evaluate again")


@pytest.mark.parametrize(
    "change",
    [
        lambda data: {**data, "schema": 99},
        lambda data: {**data, "scores": [{"metric": "rer"}]},
        lambda data: {**data, "scores": 5},
        lambda data: {**data, "thresholds": {**data["thresholds"], "erased": "0.8"}},
    ],
)
def test_invalid_result(artifact: Path, change: Callable[[Any], Any]) -> None:
    path = artifact / "evidence" / EVALUATION / "result.json"
    rewrite(path, change)
    check_refused(artifact, str(path), "evaluate again")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("images.json", lambda rows: {"rows": rows}),
        ("images.json", lambda rows: [{**rows[0], "prompt": None}]),
        ("images.json", lambda rows: [{**rows[0], "expected": "knife"}]),
        ("images.json", lambda rows: [{**rows[0], "after": "../../../../secret.png"}]),
        ("interference.json", lambda rows: [{"n": 3}]),
        ("../attacks/synonyms/attack.json", lambda data: {**data, "prompts": 3}),
        ("../attacks/synonyms/attack.json", lambda data: {**data, "config": [3]}),
    ],
)
def test_other_invalid_files(artifact: Path, name: str, change: Callable[[Any], Any]) -> None:
    path = (artifact / "evidence" / EVALUATION / name).resolve()
    rewrite(path, change)
    check_refused(artifact, path.name, "not as efface writes it")


@pytest.mark.parametrize("name", ["weights.safetensors", "history.json", "README.md"])
def test_a_changed_file_of_the_erasure_is_refused(artifact: Path, name: str) -> None:
    damage(artifact / name, "bit")
    check_refused(artifact, name, "changed")


def test_folder_without_artifact(tmp_path: Path) -> None:
    with pytest.raises(EffaceError, match="holds no erasure"):
        write_report(tmp_path)
