"""Masks of a concept in noisy latents, from cross-attention at a quarter of the latent's side."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from efface.models.attention_maps import Maps


def concept_attention(maps: Maps, token_mask: Tensor, num_latent_pixels: int) -> Tensor:
    """Averages the attention to a concept's tokens over heads and over the layers at a quarter of the latent's side.

    Layers are chosen by their number of pixels relative to the latent's, so that the image's size does not matter;
    a model without such a layer gives its nearest.

    Args:
        maps: probabilities ``(B, heads, pixels, L)`` by layer.
        token_mask: the concept's tokens, bool ``(B, L)``.
        num_latent_pixels: height times width of the latent.

    Returns:
        ``(B, pixels)``.
    """
    distance = {name: abs(math.log(layer.shape[2] * 16 / num_latent_pixels)) for name, layer in maps.items()}
    nearest = min(distance.values())
    chosen = [layer for name, layer in maps.items() if distance[name] < nearest + 1e-6]
    weights = token_mask / token_mask.sum(1, keepdim=True).clamp(min=1)
    return torch.stack([(layer.mean(1) * weights[:, None]).sum(-1) for layer in chosen]).mean(0)


def threshold_attention(attention: Tensor, threshold: float) -> Tensor:
    """Scales attention ``(B, pixels)`` to [0, 1] row by row, and returns 1 where it reaches the threshold, else 0."""
    low, high = attention.amin(1, keepdim=True), attention.amax(1, keepdim=True)
    return ((attention - low) / (high - low).clamp(min=1e-12) >= threshold).float()


def resize_mask(mask: Tensor, num_pixels: int, aspect_ratio: float = 1.0) -> Tensor:
    """Resizes masks ``(B, pixels)`` to another number of pixels, by the nearest.

    Args:
        mask: row by row.
        num_pixels: of the result.
        aspect_ratio: width over height.
    """
    rows = round((mask.shape[1] / aspect_ratio) ** 0.5)
    new_rows = round((num_pixels / aspect_ratio) ** 0.5)
    square = mask.unflatten(1, (rows, -1))[:, None]
    return torch.nn.functional.interpolate(square, size=(new_rows, num_pixels // new_rows))[:, 0].flatten(1)
