"""``efface sample``."""

from __future__ import annotations

import errno
import json
import os

from helpers.cli import call, check_refused, content
from PIL import Image


def test_a_grid_of_two_prompts(capfd, tmp_path, model_folder):
    out = tmp_path / "cats.png"
    options = ("-n", "2", "--seed", "5", "--steps", "2", "--guidance-scale", "2.5", "--model", model_folder)
    output = call(capfd, "sample", "a cat", "a dog", *options, "--out", out, "--json")
    assert output.code == 0, output
    data = json.loads(output.out)
    assert data.pop("seconds") > 0
    assert data.pop("erasure") is None
    assert data == {"out": str(out), "model": "tiny", "prompts": ["a cat", "a dog"], "images": 4}
    with Image.open(out) as image:
        assert image.format == "PNG"
    assert [path.name for path in tmp_path.iterdir()] == ["cats.png"]


def test_a_full_disk_leaves_no_file(capfd, tmp_path, model_folder, monkeypatch):
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("efface.core.io.os.fsync", fail)
    out = tmp_path / "cat.png"
    output = call(capfd, "sample", "a cat", "-n", "1", "--steps", "1", "--model", model_folder, "--out", out)
    check_refused(output, f"cannot write {out}", "free some space", early=False)
    assert content(tmp_path) == {}
