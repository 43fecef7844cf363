"""``efface compare``, and ``efface sample`` with an erasure."""

from __future__ import annotations

import json

from helpers.cli import call, check_refused
from PIL import Image, ImageChops

QUICK = ("-n", "2", "--steps", "2", "--seed", "5")


def test_a_page_and_a_grid_of_images_before_and_after(capfd, tmp_path, model_folder, erasure_folder):
    out = tmp_path / "guns.html"
    options = (*QUICK, "--model", model_folder, "--out", out)
    output = call(capfd, "compare", erasure_folder, "a gun", "a <b>cat</b>", *options, "--json")
    assert output.code == 0, output
    assert json.loads(output.out) == {"page": str(out), "grid": str(tmp_path / "guns.png"), "pairs": 4}
    page = out.read_text()
    assert page.count("data:image/png;base64,") == 8
    assert "a &lt;b&gt;cat&lt;/b&gt;" in page
    assert "<b>" not in page
    assert "seed 5" in page
    assert "http" not in page.split("</style>")[1], "the page loads nothing"
    with Image.open(tmp_path / "guns.png") as grid:
        assert grid.format == "PNG"
        top, bottom = (grid.convert("RGB").crop((16, y, 160, y + 144)) for y in (88, 88 + 144 + 18 + 8))
        assert ImageChops.difference(top, bottom).getbbox() is not None, "the erasure changes the first prompt's images"


def test_a_sample_with_an_erasure_differs_from_the_models_own(capfd, tmp_path, model_folder, erasure_folder):
    options = (*QUICK, "--model", model_folder)
    for name, erasure in (("before", ()), ("after", ("--erasure", erasure_folder))):
        output = call(capfd, "sample", "a gun", *options, *erasure, "--out", tmp_path / f"{name}.png", "--json")
        assert output.code == 0, output
    assert json.loads(output.out)["erasure"] == str(erasure_folder)
    with Image.open(tmp_path / "before.png") as before, Image.open(tmp_path / "after.png") as after:
        box = ImageChops.difference(before, after).getbbox()
        assert box is not None
        assert box[3] > 100, "the images differ, not the heading alone"


def test_bad_files_are_refused_before_a_model_is_loaded(capfd, tmp_path, erasure_folder):
    check_refused(call(capfd, "compare", erasure_folder, "a gun", "--out", tmp_path / "x.png"), "does not end in .html")
    check_refused(
        call(capfd, "sample", "a gun", "--erasure", tmp_path, "--out", tmp_path / "x.png"), "is not an erasure"
    )
