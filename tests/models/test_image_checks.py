"""Images that are not finite, and black ones of a base model, are errors; a float16 autoencoder that overflows."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_model

from efface.core.errors import EffaceError
from efface.models.image_checks import check_base_images, check_finite, check_generated


def test_images_that_are_not_images_are_refused():
    images = torch.full((3, 3, 4, 4), 0.5)
    assert check_finite(images) is images
    assert check_generated(images, "abc", [1, 2, 3], torch.float32) is images
    for value in (torch.nan, torch.inf):
        broken = images.clone()
        broken[1] = value
        with pytest.raises(EffaceError, match=r"'b' with seed 2 is not finite.*an erasure on it is damaged"):
            check_generated(broken, "abc", [1, 2, 3], torch.float32)
        with pytest.raises(EffaceError, match="--dtype bfloat16"):
            check_generated(broken, "abc", [1, 2, 3], torch.float16)
    with pytest.raises(EffaceError, match="image 2 of 3 holds NaN"):
        check_finite(broken)
    assert check_base_images(images) is images
    images[2] = 0
    with pytest.raises(EffaceError, match="1 of 3 images of the model without an erasure are black"):
        check_base_images(images)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_model_with_broken_weights_generates_no_image(value, tiny):
    with torch.no_grad():
        next(iter(tiny.parameter_group("cross_kv").parameters.values())).fill_(value)
    with pytest.raises(EffaceError, match="the image of 'a gun' with seed 1 is not finite"):
        tiny.sample(["a gun"], seeds=[1], num_inference_steps=2)


def test_an_autoencoder_that_overflows_in_float16_runs_in_float32():
    model = tiny_model(dtype=torch.float16)
    with torch.no_grad():
        model.vae.post_quant_conv.weight.mul_(6e4)
        model.vae.decoder.conv_in.weight.mul_(6e3)
    z = model.initial_noise([1])
    assert not model._decode(z).isfinite().all()
    assert model.decode(z).isfinite().all()
    assert model.vae.dtype == torch.float32
    assert model.unet.dtype == torch.float16
    assert model.sample(["a gun"], seeds=[1], num_inference_steps=1).isfinite().all()
