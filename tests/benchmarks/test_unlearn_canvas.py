"""UnlearnCanvas' aggregation on a small table counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.cli import call, check_refused

from efface.benchmarks.unlearn_canvas import aggregate, read_detections

TABLE = """style,object,seed,detected_style,detected_object
Van_Gogh,Dogs,1,Cubism,Dogs
Van_Gogh,Cats,1,Van_Gogh,Dogs
Cubism,Dogs,1,Cubism,Dogs
Cubism,Cats,1,Cubism,Cats
Pop_Art,Dogs,1,Cubism,Dogs
Pop_Art,Cats,1,Pop_Art,Dogs
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "t.csv").write_text(TABLE)
    return tmp_path / "t.csv"


def test_rates_of_a_style_and_of_an_object(table: Path) -> None:
    rows = read_detections(table)
    ua, ira, cra = aggregate(rows, "style", "van gogh")
    assert [(score.value, score.n) for score in (ua, ira, cra)] == [(0.5, 2), (0.75, 4), (0.75, 4)]
    assert aggregate(rows, "style", "Van_Gogh", "all")[2].value == pytest.approx(4 / 6)
    ua, ira, cra = aggregate(rows, "object", "Cats")
    assert [(score.value, score.n) for score in (ua, ira, cra)] == [(2 / 3, 3), (1.0, 3), (1 / 3, 3)]


def test_the_command_prints_the_rates(table: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = call(capfd, "benchmarks", "unlearn-canvas", table, "--style", "van gogh")
    assert output.code == 0, output.err
    assert "ua/van gogh 0.50" in output.out
    check_refused(call(capfd, "benchmarks", "unlearn-canvas", table, "--style", "monet"), "unknown style 'monet'")
    check_refused(call(capfd, "benchmarks", "unlearn-canvas", table), "give --style or --object")
    table.write_text(TABLE + "Pop_Art,Cats,1,Pop_Art,Dogs\n")
    check_refused(call(capfd, "benchmarks", "unlearn-canvas", table, "--object", "cats"), "twice")
    table.write_text("style,object\nx,y\n")
    check_refused(call(capfd, "benchmarks", "unlearn-canvas", table, "--object", "y"), "has no column seed")
