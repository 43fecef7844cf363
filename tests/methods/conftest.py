"""Fixtures of the tests of single methods."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_model

from efface.models.stable_diffusion import StableDiffusionModel


@pytest.fixture(scope="module")
def model() -> StableDiffusionModel:
    """A tiny model in float64 with random layer norms: with zero biases every Gram matrix would be singular."""
    model = tiny_model(dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.text_encoder.named_parameters():
        if "final_layer_norm" in name:
            parameter.data.copy_(1 + 0.1 * torch.randn(parameter.shape, generator=generator))
    return model
