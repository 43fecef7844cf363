"""Tokens of images that a denoiser reads as prompts: drawn at random, and refined by a text (arXiv 2505.11131)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def draw_tokens(groups: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    """Draws the tokens of one image from each group ``(N, n, D)``: ``(B, n, D)``; ``generator`` is on the CPU."""
    draws = torch.rand(len(groups), generator=generator).tolist()
    return torch.stack([group[int(draw * len(group))] for group, draw in zip(groups, draws, strict=True)])


def refine_tokens(tokens: Tensor, states: Tensor) -> Tensor:
    """Replaces each image token by the text's states that it attends to: softmax(I T^T / sqrt(d)) T.

    Args:
        tokens: I, ``(B, n, D)``.
        states: T, ``(B, L, D)``.
    """
    weights = torch.softmax(tokens @ states.mT / tokens.shape[-1] ** 0.5, dim=-1)
    return weights @ states
