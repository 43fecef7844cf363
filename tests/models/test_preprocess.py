"""Preprocessing as image processors' files define it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.classifiers import random_images

from efface.models.preprocess import Preprocess


@pytest.mark.parametrize(
    ("settings", "resize", "crop"),
    [
        ({"size": 224, "do_center_crop": False}, 224, 224),
        (
            {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
            256,
            224,
        ),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, 256, 224),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, 384, 384),
    ],
)
def test_settings_give_the_sizes_of_resized_and_cropped_images(
    settings: dict[str, object], resize: int, crop: int, tmp_path: Path
) -> None:
    scale = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3, "resample": 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**scale, **settings}))
    preprocess = Preprocess.from_folder(tmp_path)
    assert (preprocess.resize, preprocess.crop, preprocess.interpolation) == (resize, crop, "bicubic")
    assert preprocess(random_images(1, 32)).shape == (1, 3, crop, crop)
    if crop < resize:
        marked = torch.zeros(1, 3, resize, resize)
        marked[..., resize // 2, resize // 2] = 1
        assert preprocess(marked).amax((0, 1)).argmax() == (crop // 2) * crop + crop // 2, (
            "the centre of the crop is the centre of the image"
        )
