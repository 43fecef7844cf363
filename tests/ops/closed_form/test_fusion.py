"""Fusion of LoRAs in closed form, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.closed_form import (
    Fusion,
    LowRankUpdate,
    Preserve,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("scale", [0.0, 0.3])
def test_fusion_is_the_published_formula_of_each_layer(model: StableDiffusionModel, scale: float) -> None:
    """W* = (lambda W_r + sum_j W_j K_j K_j^T + s W C)(lambda I + sum_j K_j K_j^T + s C)^-1 with W_j = W_r + B_j A_j."""
    d, ridge = 32, 0.7
    refined = LowRankUpdate(0.3 * normal(d, 5, seed=1), 0.3 * normal(5, d, seed=2))
    states = [normal(d, 40, seed=3), normal(d, 9, seed=4)]
    kept = normal(d, 50, seed=5)
    gram = kept @ kept.T
    weights = model.parameter_group("cross_kv").parameters
    adapters = [
        {n: (normal(len(w), 2, seed=6 + j), normal(2, d, seed=8 + j)) for n, w in weights.items()} for j in range(2)
    ]
    preserve = Preserve(gram=scale * gram) if scale else Preserve()
    deltas, condition = Fusion(refined, states, preserve, ridge).solve(weights, adapters)
    assert condition > 1
    eye = torch.eye(d, dtype=torch.float64)
    for name, weight in weights.items():
        start = weight @ (eye + refined.dense())
        left, right = ridge * start + scale * weight @ gram, ridge * eye + scale * gram
        for (up, down), k in zip([a[name] for a in adapters], states, strict=True):
            left, right = left + (start + up @ down) @ k @ k.T, right + k @ k.T
        torch.testing.assert_close(weight + deltas[name], left @ torch.inverse(right), rtol=1e-10, atol=1e-10)
