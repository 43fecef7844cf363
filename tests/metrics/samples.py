"""Samples of known distributions, and accumulators filled with them."""

from __future__ import annotations

import torch

from efface.core.score import DetectorId

NET = DetectorId("judge-features", "1")


def gaussian(n: int, seed: int, mean: float = 0.0, scale: float = 1.0, d: int = 6) -> torch.Tensor:
    return mean + scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def accumulated(kind: type, features: torch.Tensor, prompts: list[str] | None = None, batch: int = 300):
    accumulator = kind()
    for start in range(0, len(features), batch):
        accumulator.update(features[start : start + batch], prompts[start : start + batch] if prompts else None)
    return accumulator


class Flat(torch.nn.Module):
    num_features = 6

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).float()
