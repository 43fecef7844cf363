"""Pocket's own projection of image embeddings to tokens."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from helpers.tiny import tiny_model

from efface.core.errors import EffaceError
from efface.detectors.zero_shot import load_scorer
from efface.models.image_prompt import POCKET, image_prompt
from efface.models.stable_diffusion import StableDiffusionModel

load_tower = partial(load_scorer, "pocket-clip")


@pytest.mark.slow
def test_an_image_s_own_tokens_explain_it_best(pocket: StableDiffusionModel) -> None:
    """The denoising error falls with the tokens of the image, and less with those of another image."""
    prompts = ["a photo of a cat", "a mosaic of a bus in the city", "a pencil sketch of a castle", "a photo of a pizza"]
    images = pocket.sample(prompts, seeds=[1, 2, 3, 4])
    t, generator = torch.full((len(images),), 500), torch.Generator().manual_seed(0)
    with image_prompt(pocket, POCKET, load_tower) as reader, torch.no_grad():
        latents, tokens, empty = pocket.encode_image(images), reader.tokens(images), pocket.unconditional(len(images))
        noise = torch.randn(latents.shape, generator=generator)
        z = pocket.add_noise(latents, noise, t)
        shown = [reader.predict(pocket.predict, z, t, empty, rows).epsilon for rows in (tokens, tokens.roll(1, 0))]
        own, other, without = ((e - noise).square().mean() for e in (*shown, pocket.predict(z, t, empty).epsilon))
    assert own < without
    assert own < other


def test_another_model_cannot_read_its_tokens() -> None:
    with (
        pytest.raises(EffaceError, match="tiny cannot read pocket's image tokens"),
        image_prompt(tiny_model(), POCKET, load_tower),
    ):
        pass
