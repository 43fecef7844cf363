from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from efface.core.errors import EffaceError, UnknownNameError
from efface.studies.ablation import Row, ablate, plot, read, table, variants

FAST = {"steps": 2, "warmup": 1, "words": 0, "sentences": 2, "sampler_steps": 2, "attack_steps": 1, "batch": 2}


def test_a_study_on_pocket_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    only = ("as it is", "no graph")
    rows = ablate("sage", out=tmp_path / "s", limit=4, only=only[:1], settings=FAST, say=said.append)
    made = (tmp_path / "s" / "as-it-is-0" / "erasure.json").stat().st_mtime_ns
    rows = ablate("sage", out=tmp_path / "s", limit=4, only=only, settings=FAST, say=said.append)
    assert (tmp_path / "s" / "as-it-is-0" / "erasure.json").stat().st_mtime_ns == made, (
        "what is there is not made again"
    )
    assert [row.variant for row in rows] == list(only)
    about, again = read(tmp_path / "s" / "ablation.json")
    assert again == rows
    assert (about["method"], about["benchmark"], about["part"]) == ("sage", "pocket-instrument", "dev")
    assert rows[0].scores["retention/other"] is not None
    assert "no graph" in (tmp_path / "s" / "ablation.md").read_text()
    assert len(said) == 3
    attacked = ablate(
        "sage", out=tmp_path / "s", limit=4, only=only[:1], settings=FAST, attacks=["inside_out"], say=said.append
    )
    assert (tmp_path / "s" / "as-it-is-0" / "erasure.json").stat().st_mtime_ns == made, (
        "nor for an attack that comes later"
    )
    assert rows[0].scores.items() <= attacked[0].scores.items()
    assert attacked[0].scores["asr_post/inside_out"] is not None
    assert "| ASR inside_out |" in (tmp_path / "s" / "ablation.md").read_text()


def test_table_and_plot() -> None:
    rows = [
        Row("as it is", {}, 12.0, {"rer/name": (0.9, 0.8, 1.0), "retention/near": None}),
        Row("a < b", {"graph": 0.0}, 11.0, {"rer/name": (0.5, 0.4, 0.6), "retention/near": (1.0, 0.9, 1.1)}),
    ]
    rows = [
        Row(
            r.variant,
            r.settings,
            r.seconds,
            {**dict.fromkeys(("rer/domain", "retention/other", "retention/context")), **r.scores},
        )
        for r in rows
    ]
    drawing = ET.fromstring(plot(rows, "x & y"))
    assert len([e for e in drawing.iter() if e.tag.endswith("circle")]) == 3
    assert "`graph=0.0`" in table(rows)


def test_unknown_variants_and_methods_without_an_ablation(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'no graph'"):
        ablate("sage", out=tmp_path, only=["no grap"])
    with pytest.raises(EffaceError, match="no ABLATION"):
        variants("sld")
    with pytest.raises(UnknownNameError, match="did you mean 'inside_out'"):
        ablate("sage", out=tmp_path, attacks=["inside-out"])
    assert "as it is" in variants("sage")
