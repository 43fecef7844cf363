"""The ablation study: resumed studies, table and plot, and names that do not exist."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path

import pytest
from helpers.small_benchmark import small_benchmark

from efface.core.errors import EffaceError, UnknownNameError
from efface.core.registry import METHODS
from efface.execution import resolve_config
from efface.studies.ablation import ablate, variants
from efface.studies.ablation_table import Row, plot, read, table

METHODS_WITH_ABLATION = ("elide", "sage")
VARIANTS: dict[str, dict[str, object]] = {"default": {}, "ridge of 1": {"ridge": 1.0}}
"""Variants of a method that takes a tenth of a second."""
UNCHANGED, OTHER = VARIANTS


@pytest.mark.slow
def test_a_study_continues_and_adds_attacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("efface.studies.ablation.variants", lambda _: VARIANTS)
    out, finished = tmp_path / "s", []
    benchmark = small_benchmark(tmp_path, "pocket-instrument", 8, ("name", "other"))
    run = partial(ablate, "uce", out=out, benchmark=str(benchmark), limit=2, settings={"erase_scale": 0.9})
    rows = run(only=[UNCHANGED], on_row=finished.append)
    (manifest,) = out.glob("*/erasure.json")
    written = manifest.stat().st_mtime_ns
    rows = run(only=[UNCHANGED, OTHER], on_row=finished.append)
    assert manifest.stat().st_mtime_ns == written, "an existing erasure is not computed again"
    assert [row.variant for row in rows] == [UNCHANGED, OTHER]
    assert [row.variant for row in finished] == [UNCHANGED, UNCHANGED, OTHER]
    metadata, loaded = read(out / "ablation.json")
    assert loaded == rows
    assert (metadata["method"], metadata["benchmark"], metadata["split"]) == ("uce", "small-pocket-instrument", "dev")
    assert rows[0].scores["retention/other"] is not None
    assert OTHER in (out / "ablation.md").read_text()
    attacked = run(only=[UNCHANGED], attacks=["synonyms"])
    assert manifest.stat().st_mtime_ns == written, "a later attack uses the same erasure"
    assert rows[0].scores.items() <= attacked[0].scores.items()
    assert attacked[0].scores["asr_post/synonyms"] is not None
    assert "| ASR synonyms |" in (out / "ablation.md").read_text()


def test_table_and_plot() -> None:
    missing = dict.fromkeys(("rer/domain", "retention/other", "retention/context"))
    rows = [
        Row("default", {}, 12.0, {**missing, "rer/name": (0.9, 0.8, 1.0), "retention/near": None}),
        Row(
            "a < b",
            {"graph_weight": 0.0},
            11.0,
            {**missing, "rer/name": (0.5, 0.4, 0.6), "retention/near": (1.0, 0.9, 1.1)},
        ),
    ]
    drawing = ET.fromstring(plot(rows, "x & y"))
    assert len([e for e in drawing.iter() if e.tag.endswith("circle")]) == 3, "one circle per score"
    _, _, default, changed = table(rows).splitlines()
    assert default == "| default |  | N/A | N/A | N/A | 0.90 [0.80, 1.00] | N/A | 12 |"
    assert "`graph_weight=0.0`" in changed


@pytest.mark.parametrize("method", METHODS_WITH_ABLATION)
def test_every_variant_is_a_valid_configuration(method: str) -> None:
    assert not next(iter(variants(method).values())), "the first variant changes nothing"
    for overrides in variants(method).values():
        resolve_config(METHODS.get(method), None, "pocket", overrides)


def test_names_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'no relation graph'"):
        ablate("sage", out=tmp_path, only=["no relation grap"])
    with pytest.raises(EffaceError, match=r"sld has no ablation.*ablation_sld\.yaml"):
        variants("sld")
    with pytest.raises(UnknownNameError, match="did you mean 'inside_out'"):
        ablate("sage", out=tmp_path, attacks=["inside-out"])
    assert not list(tmp_path.iterdir())
