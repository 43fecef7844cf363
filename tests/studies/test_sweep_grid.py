"""The file of a grid: bad ones, and what decides a cell's folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.cli import call, check_refused

from efface.studies.sweep_grid import Grid, read_grid

GRID = "methods: [uce, {method: uce, name: weak, settings: {erase_scale: 0.5}}]\nbenchmarks: [pocket-weapon]\n"


def grid_of(folder: Path, text: str) -> Grid:
    (folder / "grid.yaml").write_text(text)
    return read_grid(folder / "grid.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("methods: [uec]\nbenchmarks: [pocket-weapon]", "unknown method 'uec': did you mean 'uce'"),
        ("methods: [uce]\nbenchmark: [pocket-weapon]", "unknown grid field 'benchmark': did you mean 'benchmarks'"),
        ("methods: [uce]\nbenchmarks: [pocket-wepon]", "unknown benchmark 'pocket-wepon'"),
        ("methods: [{method: uce, settings: {erase: 1}}]\nbenchmarks: [pocket-weapon]", "unknown config field 'erase'"),
        ("methods: [uce, uce]\nbenchmarks: [pocket-weapon]", "two cells have one name: the method 'uce'"),
        ("methods: [uce, {method: uce, name: b}]\nbenchmarks: [pocket-weapon]", "have the same settings"),
        ("methods: [uce]\nbenchmarks: [pocket-weapon]\nseeds: [0, 0]", "two cells have one name: a seed"),
        (GRID + "attacks: [none]", "unknown attack 'none'"),
        (GRID + "attacks: [paraphrase]", "paraphrase is for language models: a sweep measures image models"),
        ("methods: [elm]\nbenchmarks: [pocket-weapon]", "elm is for language models: a sweep measures image models"),
        (GRID + "limit: few", "limit must be whole numbers from 1, not 'few'"),
        (GRID + "evaluate: false", "the grid has no cells"),
        (GRID + "split: train", "unknown split 'train'"),
        (GRID + "controls: {pocket-style: c}", "unknown benchmark of the controls 'pocket-style'"),
        (GRID + "controls: {pocket-weapon: /no/folder}", "/no/folder"),
        (GRID + "controls: c", "controls must name a folder by benchmark, not 'c'"),
        (GRID + "attacks: [{attack: ledits, settings: {image_folder: no/images}}]", "cannot read no/images"),
        ("methods: uce\nbenchmarks: [pocket-weapon]", "methods must be a list, not 'uce'"),
        ("- uce", "is not a grid"),
        ("methods: [", "is not valid YAML"),
    ],
)
def test_bad_grids_are_one_line(text: str, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "grid.yaml").write_text(text)
    check_refused(call(capfd, "sweep", tmp_path / "grid.yaml", "--out", tmp_path / "o"), message)
    assert not (tmp_path / "o").exists()


def test_cells_that_differ_in_a_setting_have_other_folders(tmp_path: Path) -> None:
    attacks = "attacks: [inside_out, {attack: inside_out, name: long, settings: {steps: 100}}]\n"
    cells = grid_of(tmp_path, GRID + attacks).cells()
    assert len({cell.folder_name for cell in cells}) == len(cells) == 6
    assert len({cell.run.hash for cell in cells}) == 2
    again = grid_of(tmp_path, GRID + attacks.replace("100", "101")).cells()
    assert [a.hash == b.hash for a, b in zip(cells, again, strict=True)] == [True, True, False] * 2


def test_the_content_of_a_folder_of_images_decides_the_cell(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.png").write_bytes(b"1")
    text = GRID + f"evaluate: false\nattacks: [{{attack: ledits, settings: {{image_folder: {images}}}}}]\n"
    first = grid_of(tmp_path, text).cells()[0]
    (images / "a.png").write_bytes(b"2")
    second = grid_of(tmp_path, text).cells()[0]
    assert first.hash != second.hash
    assert first.attack is not None
    assert second.attack is not None
    assert first.attack.settings == second.attack.settings == {"image_folder": str(images)}
    images.rename(tmp_path / "moved")
    assert grid_of(tmp_path, text.replace(str(images), str(tmp_path / "moved"))).cells()[0].hash == second.hash
