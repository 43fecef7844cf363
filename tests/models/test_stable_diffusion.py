"""Stable Diffusion 1, 2 and XL through one adapter, compared with the plain diffusers pipeline."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline
from helpers.tiny import FAMILIES, PROMPTS, tiny_of, tiny_pipe, tiny_sd2_pipe, tiny_sdxl_pipe, tiny_tokenizer

from efface.core.errors import EffaceError
from efface.models.loading import load_model
from efface.models.stable_diffusion import StableDiffusionModel


def diffusers_images(pipe, model, prompt, seed, **options):
    """Images of the diffusers pipeline, with DDIM and the model's initial noise."""
    pipe.scheduler = DDIMScheduler.from_config(model.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 4, "guidance_scale": 5.0, "output_type": "pt", **options}
    return pipe(prompt, latents=model.initial_noise([seed]), **options).images


@pytest.mark.parametrize("family", FAMILIES)
def test_images_equal_those_of_diffusers(family):
    model = tiny_of(family)
    assert model.family == family
    ours = model.sample(PROMPTS, seeds=[3, 4], num_inference_steps=4, guidance_scale=5.0)
    for i, prompt in enumerate(PROMPTS):
        theirs = diffusers_images(model.pipe, model, prompt, 3 + i)
        assert (theirs[0] - ours[i]).abs().max() < 1e-4
    assert (ours[0] - ours[1]).abs().max() > 0.01


@pytest.mark.parametrize("zeros", [True, False])
def test_unconditional_predictions_of_sdxl_equal_those_of_its_pipeline(zeros):
    model = StableDiffusionModel(tiny_sdxl_pipe(force_zeros_for_empty_prompt=zeros), "xl")
    theirs = diffusers_images(model.pipe, model, "a gun", 3)
    ours = model.sample(["a gun"], seeds=[3], num_inference_steps=4, guidance_scale=5.0)
    assert (theirs[0] - ours[0]).abs().max() < 1e-4
    empty = model.unconditional(2)
    assert (float(empty.states.abs().sum()) == 0) == zeros
    assert (float(empty.pooled.abs().sum()) == 0) == zeros
    assert float(model.encode([""]).states.abs().sum()) > 0, "the empty prompt is encoded like every other prompt"


@pytest.mark.parametrize("family", FAMILIES)
def test_prediction_converts_between_its_forms(family):
    model = tiny_of(family)
    z = model.initial_noise([1, 2])
    p = model.predict(z, torch.tensor([400, 900]), model.encode(PROMPTS))
    assert p.prediction_type == ("v_prediction" if family == "sd2" else "epsilon")
    assert torch.allclose(p.alpha * p.x0 + p.sigma * p.epsilon, z, atol=1e-4)
    assert torch.allclose(p.alpha * p.epsilon - p.sigma * p.x0, p.velocity, atol=1e-3)


def test_trajectories_hold_the_latents_that_the_denoiser_reads():
    """SDXL's own sampler starts from noise of length 14.6 and scales it back; ours starts from unit noise."""
    model = tiny_of("sdxl")
    assert float(model.scheduler.init_noise_sigma) == 1
    assert not model.scheduler.config.clip_sample
    assert model.scheduler.config.set_alpha_to_one, "as SDXL's own sampler, which ends without noise"
    points = list(model.trajectory(model.encode(["a gun"]), num_inference_steps=3, guidance_scale=2.0, seeds=[1]))
    assert torch.equal(points[0].z, model.initial_noise([1]))
    p = points[0].conditional
    assert torch.allclose(model.add_noise(p.x0, p.epsilon, torch.tensor([points[0].t])), points[0].z, atol=1e-4)
    assert torch.allclose(
        model.predict(points[1].z, points[1].t, model.encode(["a gun"])).value, points[1].conditional.value, atol=1e-5
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_every_component_has_a_fingerprint(family):
    model = tiny_of(family)
    prints = model.fingerprint()
    assert prints.keys() == model.components.keys()
    assert ("text_encoder_2" in prints) == (family == "sdxl")
    assert prints == tiny_of(family).fingerprint()
    assert prints["unet"] != tiny_of(family, seed=1).fingerprint()["unet"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_near(family, dtype):
    full = tiny_of(family)
    half = load_model(tiny_of(family).pipe, dtype=dtype)
    assert half.unet.dtype == dtype
    assert (half.vae.dtype == torch.float32) == (family == "sdxl" and dtype == torch.float16), (
        "SDXL's autoencoder overflows in float16"
    )
    z = full.initial_noise([1])
    a, b = full.predict(z, 500, full.encode(["a gun"])), half.predict(z.to(dtype), 500, half.encode(["a gun"]))
    assert b.value.dtype == b.alpha.dtype == dtype
    assert float((a.epsilon - b.epsilon.float()).abs().max()) < 0.15
    images = half.sample(["a gun"], seeds=[1], num_inference_steps=2)
    assert images.dtype == torch.float32
    assert torch.isfinite(images).all()
    assert half.encode_image(images).dtype == dtype


def without(pipe, **changes):
    for name, value in changes.items():
        pipe.register_modules(**{name: value})
    return pipe


def test_unsupported_pipelines_are_refused_in_one_line():
    def with_half_text_encoder(pipe):
        pipe.text_encoder.half()
        return pipe

    other = StableDiffusionImg2ImgPipeline(**tiny_pipe().components, requires_safety_checker=False)
    inpainting = tiny_pipe(unet={"in_channels": 9})
    other_prediction = tiny_pipe()
    other_prediction.scheduler = DDIMScheduler.from_config(other_prediction.scheduler.config, prediction_type="sample")
    cases = (
        (other, "StableDiffusionImg2ImgPipeline is not supported: there are StableDiffusionPipeline"),
        (inpainting, "is an inpainting model.*reads 9 channels"),
        (without(tiny_pipe(), text_encoder=None), "has no text_encoder"),
        (without(tiny_sdxl_pipe(), text_encoder=None, tokenizer=None), "has no text_encoder, no tokenizer"),
        (without(tiny_sdxl_pipe(), tokenizer_2=tiny_tokenizer()), "different vocabularies"),
        (with_half_text_encoder(tiny_sd2_pipe()), r"mixes precisions \(text_encoder float16, unet float32.*dtype="),
        (other_prediction, "predicts 'sample'"),
        (torch.nn.Linear(1, 1), "Linear is not supported"),
    )
    for given, message in cases:
        with pytest.raises(EffaceError, match=message) as caught:
            load_model(given)
        assert "\n" not in str(caught.value)
    assert load_model(with_half_text_encoder(tiny_sd2_pipe()), dtype=torch.float32).text_encoder.dtype == torch.float32
