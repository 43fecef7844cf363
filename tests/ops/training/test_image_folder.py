"""A user's images of concepts: their latents and their bad input."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny import tiny_model
from PIL import Image

from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.ops.training.image_folder import encode_folder, read_images


def save_image(path: Path, size: int, colour: tuple[int, int, int]) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (size, size), colour).save(path)


def test_several_concepts_have_a_folder_each(tmp_path: Path) -> None:
    model = tiny_model()
    size = model.image_size
    save_image(tmp_path / "gun" / "a.png", size, (255, 0, 0))
    save_image(tmp_path / "cub" / "a.png", size, (0, 0, 255))
    save_image(tmp_path / "cub" / "b.png", size, (0, 255, 0))
    latents = encode_folder(model, [Concept("gun"), Concept("cub")], str(tmp_path))
    assert latents.prompt_index.tolist() == [0, 1, 1]
    alone = encode_folder(model, [Concept("cub")], str(tmp_path / "cub"))
    assert torch.equal(alone.x0, latents.x0[1:])
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, size, size)
    assert torch.equal(read_images(tmp_path / "gun", size)[0], red)


def test_bad_input_has_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(EffaceError, match="empty holds no images"):
        read_images(tmp_path / "empty", 8)
    save_image(tmp_path / "large" / "a.png", 12, (0, 0, 0))
    with pytest.raises(EffaceError, match=r"a\.png has 12 x 12 pixels, and the model's images 8 x 8: crop or resize"):
        read_images(tmp_path / "large", 8)
    with pytest.raises(EffaceError, match=r"cannot read .*missing"):
        read_images(tmp_path / "missing", 8)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.png").write_text("no image")
    with pytest.raises(EffaceError, match=r"cannot read .*a.png"):
        read_images(tmp_path / "text", 8)
