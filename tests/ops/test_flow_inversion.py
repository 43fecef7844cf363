"""Euler's sampler backwards: sampling from the inverted noise leads back to the image."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_flow import FLOW_PIPES, tiny_flow_of

from efface.ops.latent_inversion import invert


@pytest.mark.parametrize("family", FLOW_PIPES)
def test_sampling_from_the_inverted_noise_gives_the_image_again(family: str) -> None:
    model = tiny_flow_of(family)
    guidance_scale = model.default_guidance_scale if family == "flux" else 0.0
    options = {"num_inference_steps": 4, "guidance_scale": guidance_scale, "seeds": [3]}
    cond = model.encode(["a gun"])
    (*_, last) = model.trajectory(cond, **options)
    noise = invert(model, last.z, cond, 4, iterations=8)
    assert torch.allclose(noise, model.initial_noise([3]), atol=1e-3)
