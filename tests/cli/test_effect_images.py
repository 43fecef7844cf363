"""The images of the effect check: evidence of every erasure, shown by its report."""

from __future__ import annotations

import json

from helpers.cli import call
from PIL import Image, ImageChops

from efface.core.manifest import read_manifest


def test_an_erasure_saves_its_images_before_and_after_as_evidence(capfd, tmp_path, erasure_folder):
    folder = erasure_folder / "evidence" / "effect-check"
    rows = json.loads((folder / "images.json").read_text())
    assert {row["group"] for row in rows} == {"concept", "retained"}
    pairs = [[Image.open(folder / row[when]) for when in ("before", "after")] for row in rows]
    changed = [ImageChops.difference(*pair).getbbox() is not None for pair in pairs]
    assert all(changed[i] for i, row in enumerate(rows) if row["group"] == "concept")
    assert not any(name.startswith("evidence") for name in read_manifest(erasure_folder)["files"])
    assert call(capfd, "verify", erasure_folder).code == 0
    page = tmp_path / "report.html"
    assert call(capfd, "report", erasure_folder, "--out", page).code == 0
    html = page.read_text()
    assert "Images of the effect check" in html
    assert html.count("data:image/png;base64,") == 2 * len(rows)


def test_a_damaged_list_of_images_is_one_clear_error(capfd, tmp_path, erasure_folder):
    import shutil

    copy = shutil.copytree(erasure_folder, tmp_path / "e")
    (copy / "evidence" / "effect-check" / "images.json").write_text("{}")
    output = call(capfd, "report", copy)
    assert output.code == 2
    assert "images.json" in output.err
