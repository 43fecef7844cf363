"""A user's folder of images as a setting: its content names it, not its path."""

from __future__ import annotations

from pathlib import Path

import pytest

from efface.core.errors import EffaceError
from efface.core.image_files import image_files, images_hash, with_image_hash


def test_the_content_names_a_folder(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder / "cat").mkdir(parents=True)
        (tmp_path / folder / "1.png").write_bytes(b"1")
        (tmp_path / folder / "cat" / "2.JPG").write_bytes(b"2")
        (tmp_path / folder / "notes.txt").write_text(folder)
    assert images_hash(tmp_path / "a") == images_hash(tmp_path / "b")
    assert [path.name for path in image_files(tmp_path / "a")] == ["1.png"]
    (tmp_path / "b" / "cat" / "2.JPG").write_bytes(b"3")
    assert images_hash(tmp_path / "a") != images_hash(tmp_path / "b")
    named = with_image_hash({"steps": 3, "image_folder": str(tmp_path / "a")})
    assert named == {"steps": 3, "image_folder": images_hash(tmp_path / "a")[:12]}
    assert with_image_hash({"image_folder": ""}) == {"image_folder": ""}


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    for read in (image_files, images_hash):
        with pytest.raises(EffaceError, match=r"holds no images: put files of \.png"):
            read(tmp_path)
        with pytest.raises(EffaceError, match=r"cannot read .*missing"):
            read(tmp_path / "missing")
