"""Masks of a concept from given attention maps."""

from __future__ import annotations

import pytest
import torch

from efface.ops.latent_masks import concept_attention, resize_mask, threshold_attention


@pytest.mark.parametrize("side", [64, 96, 16])
def test_layers_at_a_quarter_of_the_side_are_averaged_over_heads_and_words(side):
    quarter, words = (side // 4) ** 2, torch.tensor([[False, True, True, False]])
    gen = torch.Generator().manual_seed(0)
    maps = {
        f"{i}": torch.rand(1, 2, pixels, 4, generator=gen) for i, pixels in enumerate((quarter * 4, quarter, quarter))
    }
    expected = torch.stack([maps["1"], maps["2"]]).mean((0, 2))[..., 1:3].mean(-1)
    torch.testing.assert_close(concept_attention(maps, words, side**2), expected, rtol=1e-4, atol=1e-5)


def test_without_such_a_layer_the_nearest_is_taken():
    maps = {"a": torch.ones(1, 1, 64, 2), "b": torch.zeros(1, 1, 256, 2)}
    assert concept_attention(maps, torch.tensor([[True, False]]), 128).shape == (1, 64)


def test_thresholds_are_between_an_images_least_and_largest():
    attention = torch.tensor([[0.0, 0.05, 0.5, 1.0], [2.0, 2.2, 2.05, 3.0]])
    expected = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]])
    assert torch.equal(threshold_attention(attention, 0.1), expected)


def test_masks_are_resized_by_the_nearest_pixel():
    mask = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    assert resize_mask(mask, 16).view(4, 4).tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    wide = torch.tensor([[1.0, 0.0]])
    assert resize_mask(wide, 8, aspect_ratio=2.0).tolist() == [[1, 1, 0, 0, 1, 1, 0, 0]]
