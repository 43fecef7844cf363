"""Masks of a concept in an image."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny import tiny_model
from PIL import Image

from efface.core.errors import EffaceError
from efface.models.attention_maps import attention_maps
from efface.ops.attention.concept_masks import attention_masks, read_masks, resize_masks


def test_resize_masks_takes_the_nearest_pixel() -> None:
    right_half = torch.zeros(1, 8, 8)
    right_half[:, :, 4:] = 1
    assert resize_masks(right_half, 16).view(4, 4).tolist() == [[False, False, True, True]] * 4
    assert resize_masks(right_half[:, :4], 8).view(2, 4).tolist() == [[False, False, True, True]] * 2


def test_attention_masks_are_the_pixels_above_the_threshold() -> None:
    model = tiny_model()
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    cond, token_mask = model.encode(["a gun"] * 3), torch.zeros(3, 16, dtype=torch.bool)
    token_mask[:, 2] = True

    def masks(threshold: float, batch_size: int = 16) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return attention_masks(model, latents, cond, token_mask, generator, threshold=threshold, batch_size=batch_size)

    assert bool((masks(0.0) == 1).all())
    assert bool((masks(1.0).flatten(1).sum(1) >= 1).all()), "the maximum itself"
    assert float(masks(1.0).mean()) < 0.1
    assert bool((masks(0.999) >= masks(1.0)).all())
    assert torch.equal(masks(0.999, batch_size=2), masks(0.999))
    with attention_maps(model) as maps:
        masks(0.5)
    assert all(layer.shape[0] == 3 for layer in maps.values())


def test_read_masks_needs_one_mask_of_the_same_size_per_image(tmp_path: Path) -> None:
    for i in range(2):
        Image.new("L", (4, 4), 255 * i).save(tmp_path / f"{i}.png")
    assert read_masks(tmp_path, 2).mean((1, 2)).tolist() == [0, 1]
    with pytest.raises(EffaceError, match="2 masks for 3 images"):
        read_masks(tmp_path, 3)
    Image.new("L", (5, 4)).save(tmp_path / "1.png")
    with pytest.raises(EffaceError, match="different sizes"):
        read_masks(tmp_path, 2)
    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.raises(EffaceError, match="cannot read"):
        read_masks(tmp_path, 2)
