"""M-ErasureBench: which attack each scenario runs, its rates, and bad input."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.cli import call, check_refused

from efface.core.errors import EffaceError
from efface.core.evaluation_evidence import RESULT
from efface.core.result import Result
from efface.core.score import DetectorId, Provenance, Score
from efface.studies import m_erasure

JUDGE = DetectorId("fake", "1")
RATES = {
    "synonyms": {"asr_pre": 1, "asr_post": 9},
    "concept_inversion": {"asr_pre": 1, "asr_post": 6},
    "inverted_latents": {"asr_pre": 1, "reproduction_rate": 8},
}


@pytest.fixture
def attacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any, Any]]:
    """Replaces the attacks by saved results; the list holds every call's attack, settings and control."""
    calls = list[tuple[str, Any, Any]]()

    def attack(_artifact: Path, name: str, _benchmark: str | None, **options: Any) -> Any:
        calls.append((name, options.get("config"), options.get("control")))
        folder = tmp_path / f"{len(calls)}"
        folder.mkdir()
        rates = dict(RATES[name])
        if options.get("control"):
            rates |= {"reproduction_rate_control": 5, "asr_post": 3}
        scores = [Score.rate(metric, name, hits, 10, JUDGE, Provenance()) for metric, hits in rates.items()]
        Result(tuple(scores), {}).save(folder / RESULT)
        return SimpleNamespace(folder=folder)

    monkeypatch.setattr(m_erasure.api, "attack", attack)
    return calls


def test_five_scenarios_with_their_rates(attacks: list[Any], tmp_path: Path) -> None:
    scores = m_erasure.m_erasure(tmp_path, limit=4)
    assert [(score.metric, score.group, score.value) for score in scores] == [
        ("crr", "text", 0.1),
        ("crr", "embeddings_white_box", 0.6),
        ("crr", "embeddings_black_box", 0.6),
        ("crr", "latents_white_box", 0.8),
        ("crr", "latents_black_box", 0.8),
    ]
    assert [config["setting"] for _, config, _ in attacks[1:]] == ["white_box", "black_box"] * 2


def test_a_control_is_for_latents_alone(attacks: list[Any], tmp_path: Path) -> None:
    names = ("embeddings_white_box", "latents_white_box")
    scores = m_erasure.m_erasure(tmp_path, control=tmp_path / "control", scenarios=names)
    assert [(score.metric, score.value) for score in scores] == [
        ("crr", 0.6), ("crr", 0.8), ("crr_control", 0.5), ("asr_post", 0.3),
    ]  # fmt: skip
    assert [control is None for _, _, control in attacks] == [True, False]


def test_bad_input(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EffaceError, match="unknown scenario 'texts': choose from text, embeddings_white_box"):
        m_erasure.m_erasure(tmp_path, scenarios=("texts",))
    check_refused(call(capfd, "benchmarks", "m-erasure", tmp_path / "no"), "no")
