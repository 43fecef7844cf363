"""The page of several erasures: one file, a table with every score, and the images that all of them have."""

from __future__ import annotations

import base64
import csv
import io
import re
from pathlib import Path

import pytest
from artifact_folder import HOSTILE, evaluate, result, saved_erasure
from helpers.cli import call, check_refused

from efface.api.report import report
from efface.core.concept import Concept


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Two evaluated erasures, the second of them damaging neighbours, and one that is not evaluated."""
    found = [tmp_path / name for name in ("first", "second", "third")]
    for folder in found:
        saved_erasure(folder)
    evaluate(found[0])
    evaluate(found[1], evaluated=result(near=20))
    return found


def table_of(html: str) -> list[dict[str, str]]:
    encoded = re.search(r"data:text/csv;base64,([^\"]+)", html)
    return list(csv.DictReader(io.StringIO(base64.b64decode(encoded[1]).decode())))


def test_the_table_holds_every_erasure_with_its_scores(folders, tmp_path):
    html = report(folders, tmp_path / "all.html").read_text()
    first, second, third = table_of(html)
    assert [row["erasure"] for row in (first, second, third)] == ["first", "second", "third"]
    assert float(first["Retention near"]) == pytest.approx(118 / 120)
    assert float(second["Retention near"]) == pytest.approx(20 / 120)
    assert "damaged" in second["verdict"]
    assert third["verdict"] == "not evaluated"
    assert third["RER name"] == "-"


def test_images_are_shown_once_before_and_once_for_each_erasure(folders, tmp_path):
    html = report(folders, tmp_path / "all.html").read_text()
    assert html.count('alt="before: a photo of near"') == 1
    assert html.count('alt="first: a photo of near"') == html.count('alt="second: a photo of near"') == 1
    assert 'alt="third' not in html
    assert "share no prompts" in report(folders[1:], tmp_path / "two.html").read_text()


def test_the_page_loads_nothing_and_escapes_names(folders, tmp_path):
    saved_erasure(tmp_path / "hostile", concepts=(Concept(HOSTILE),))
    html = report([*folders, tmp_path / "hostile"], tmp_path / "all.html").read_text()
    assert HOSTILE not in html
    assert not re.findall(r"(?:src|href)=\"(?!data:|#lightbox)[^\"]+\"", html)


def test_equal_names_are_told_apart_by_their_path(folders, tmp_path):
    (tmp_path / "other").mkdir()
    saved_erasure(tmp_path / "other" / "first")
    rows = table_of(report([folders[0], tmp_path / "other" / "first"], tmp_path / "all.html").read_text())
    assert [row["erasure"] for row in rows] == [str(folders[0]), str(tmp_path / "other" / "first")]


def test_the_command_refuses_a_repeated_erasure_and_another_suffix(capfd, folders, tmp_path):
    check_refused(call(capfd, "report", folders[0], folders[0]), "is named twice")
    check_refused(call(capfd, "report", *folders, "--out", tmp_path / "all.pdf"), "does not end in .html")
    assert call(capfd, "report", *folders, "--out", tmp_path / "all.html").code == 0
