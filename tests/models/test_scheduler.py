"""Sampling with any scheduler configuration: it ends without noise, and images stay those of diffusers' DDIM."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, PNDMScheduler
from helpers.tiny import tiny_model, tiny_pipe

from efface.core.errors import EffaceError
from efface.models.loading import load_model
from efface.models.scheduler import ddim_step, inference_timesteps, to_ddim

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
CONFIGURATIONS = [
    DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
    DDIMScheduler(**BETAS, clip_sample=False, steps_offset=900),
    DDIMScheduler(**BETAS, clip_sample=False, timestep_spacing="linspace"),
    DDIMScheduler(**BETAS, clip_sample=False, timestep_spacing="trailing"),
    DDIMScheduler(
        **BETAS, clip_sample=False, timestep_spacing="trailing", rescale_betas_zero_snr=True,
        prediction_type="v_prediction",
    ),
    DDIMScheduler(num_train_timesteps=40, beta_schedule="squaredcos_cap_v2", clip_sample=False),
    EulerDiscreteScheduler(**BETAS, timestep_spacing="linspace"),
    PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1),
    DPMSolverMultistepScheduler(**BETAS, use_karras_sigmas=True, thresholding=True, prediction_type="v_prediction"),
]  # fmt: skip


def sample_with_perfect_denoiser(scheduler, steps, x0, noise):
    """The latent after the last step, for a denoiser that knows the noise."""
    alphas = scheduler.alphas_cumprod.double()
    timesteps = inference_timesteps(scheduler, steps)
    assert len(timesteps) == steps
    z = alphas[timesteps[0]].sqrt() * x0 + (1 - alphas[timesteps[0]]).sqrt() * noise
    for t, next_t in zip(timesteps, [*timesteps[1:], -1], strict=True):
        alpha, sigma = alphas[t].sqrt(), (1 - alphas[t]).sqrt()
        epsilon = (z - alpha * x0) / sigma
        is_velocity = scheduler.config.prediction_type == "v_prediction"
        z = ddim_step(scheduler, alpha * epsilon - sigma * x0 if is_velocity else epsilon, t, next_t, z)
    return z


@pytest.mark.parametrize("steps", [1, 2, 7, 30, 600, 1000])
@pytest.mark.parametrize("scheduler", CONFIGURATIONS, ids=range(len(CONFIGURATIONS)))
def test_sampling_ends_without_noise(scheduler, steps):
    ddim = to_ddim(scheduler)
    if steps > ddim.config.num_train_timesteps:
        with pytest.raises(EffaceError, match=r"600 sampling|1000 sampling"):
            inference_timesteps(ddim, steps)
        return
    x0, noise = torch.randn(2, 50, generator=torch.Generator().manual_seed(0)).double()
    z = sample_with_perfect_denoiser(ddim, steps, x0, noise)
    assert (z - x0).std() < 0.035, "Stable Diffusion 1 ends at its lowest noise level, 0.029; the others at none"


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_equal_those_of_diffusers_where_the_timesteps_are_evenly_spaced(prediction_type, dtype):
    scheduler = DDIMScheduler(
        **BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type=prediction_type
    )
    scheduler.set_timesteps(20)
    timesteps = inference_timesteps(scheduler, 20)
    assert timesteps == scheduler.timesteps.tolist()
    z, output = (torch.randn(2, 4, 2, 2, generator=torch.Generator().manual_seed(i)).to(dtype) for i in (0, 1))
    for t, next_t in zip(timesteps, [*timesteps[1:], -1], strict=True):
        assert torch.equal(ddim_step(scheduler, output, t, next_t, z), scheduler.step(output, t, z).prev_sample)


def test_one_step_without_spacing_at_the_end_starts_at_the_noisiest_level():
    for spacing in ("leading", "linspace", "trailing"):
        assert inference_timesteps(DDIMScheduler(timestep_spacing=spacing), 1) == [999]
    assert all(0 <= t < 1000 for n in (1, 7, 93, 999, 1000) for t in inference_timesteps(CONFIGURATIONS[3], n))


@pytest.mark.parametrize("scheduler_class", [DDIMScheduler, EulerDiscreteScheduler])
def test_zero_terminal_snr_with_noise_prediction_is_refused(scheduler_class):
    pipe = tiny_pipe()
    pipe.scheduler = scheduler_class(**BETAS, rescale_betas_zero_snr=True)
    with pytest.raises(EffaceError, match=r"zero terminal SNR.*prediction_type to v_prediction"):
        load_model(pipe)


def test_settings_that_ddim_does_not_have_are_refused():
    with pytest.raises(EffaceError, match="2 noise levels for 1000 training timesteps"):
        to_ddim(DDIMScheduler(trained_betas=[0.1, 0.2]))
    with pytest.raises(EffaceError, match=r"are not supported: .*other is not supported"):
        to_ddim(DDIMScheduler(timestep_spacing="other"))


@pytest.mark.parametrize("steps", [0, 1001])
def test_a_number_of_steps_out_of_range_is_refused(steps, tiny):
    with pytest.raises(EffaceError, match=rf"{steps} sampling steps are not possible: give 1 to 1000"):
        tiny.sample(["a gun"], seeds=[1], num_inference_steps=steps)


def test_a_guidance_scale_of_one_or_less_disables_guidance():
    model = tiny_model()
    images = {
        scale: model.sample(["a gun"], seeds=[1], num_inference_steps=2, guidance_scale=scale)
        for scale in (-1.0, 0.0, 0.5, 1.0, 2.0)
    }
    for scale in (-1.0, 0.0, 0.5):
        assert torch.equal(images[scale], images[1.0])
    assert not torch.equal(images[2.0], images[1.0])
    pipe = model.pipe
    pipe.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 2, "guidance_scale": 0.0, "output_type": "pt"}
    theirs = pipe("a gun", latents=model.initial_noise([1]), **options).images
    torch.testing.assert_close(theirs, images[0.0], atol=1e-4, rtol=0)
