"""The noise levels that a model was trained on, and DDIM on them, whatever scheduler its pipeline came with.

Stable Diffusion 1, 2 and XL are all trained on ``z_t = alpha_t x0 + sigma_t eps`` with alpha^2 + sigma^2 = 1 over
1000 levels. SDXL's pipeline comes with Euler's sampler, which works on ``z_t / alpha_t``, starts from noise of length
sigma_max and scales it back before each pass. That is the same path in other coordinates (DDIM with eta = 0 is
Euler's method for it), so one sampler serves all families: ``predict``, ``add_noise`` and ``trajectory`` all use the
z that the denoiser reads, and sampling starts from unit noise.

diffusers' DDIM scheduler steps from t to t - T // n. That is the next timestep only where the timesteps have this
spacing; elsewhere (``linspace``, ``trailing`` with many steps) each step would leave noise behind. So `ddim_step` here
is told the next timestep.
"""

from __future__ import annotations

from inspect import signature
from typing import Any

from diffusers import DDIMScheduler
from torch import Tensor

from efface.core.errors import EffaceError

PREDICTION_TYPES = ("epsilon", "v_prediction")


def to_ddim(scheduler: Any) -> Any:
    """Builds a DDIM scheduler on the noise levels of a pipeline's scheduler.

    Raises:
        EffaceError: the scheduler has no such noise levels, the model's prediction type is not in `PREDICTION_TYPES`,
            or the model predicts noise at a signal-to-noise ratio of zero.
    """
    config = scheduler.config
    name = type(scheduler).__name__
    if "beta_schedule" not in config:
        raise EffaceError(f"the model's scheduler ({name}) is not Stable Diffusion's: it has no alpha and sigma")
    prediction_type = config.get("prediction_type", "epsilon")
    if prediction_type not in PREDICTION_TYPES:
        supported = " and ".join(PREDICTION_TYPES)
        raise EffaceError(f"the model predicts {prediction_type!r} ({name}); supported are {supported}")
    try:
        # from_config would replace the values that are defaults of the other class by DDIM's own defaults.
        known = {key: config[key] for key in signature(DDIMScheduler.__init__).parameters if key in config}
        ddim = DDIMScheduler(**{**known, **_differences_from_ddim(scheduler)})
        ddim.set_timesteps(1)
    except (NotImplementedError, ValueError, TypeError) as error:
        raise EffaceError(f"the settings of the model's scheduler ({name}) are not supported: {error}") from error
    _check_noise_levels(ddim, name)
    return ddim


def _differences_from_ddim(scheduler: Any) -> dict[str, Any]:
    """Returns the settings that other schedulers leave out, and for which DDIM's defaults would be wrong.

    DDIM would clip latents as if they were pixels. Most samplers end at sigma = 0, as DDIM does with
    ``set_alpha_to_one``; those that end at the lowest trained level say so in one of two ways.
    """
    if isinstance(scheduler, DDIMScheduler):
        return {}
    config = scheduler.config
    ends_clean = config.get("final_sigmas_type", "zero") != "sigma_min"
    return {
        "clip_sample": False,
        "thresholding": False,
        "set_alpha_to_one": bool(config.get("set_alpha_to_one", ends_clean)),
    }


def _check_noise_levels(scheduler: Any, name: str) -> None:
    """Checks that every timestep has a noise level, and that noise is predicted only where there is some signal.

    Raises:
        EffaceError: it is not so.
    """
    levels, trained = len(scheduler.alphas_cumprod), scheduler.config.num_train_timesteps
    if levels != trained:
        raise EffaceError(f"the model's scheduler ({name}) has {levels} noise levels for {trained} training timesteps")
    zero = bool((scheduler.alphas_cumprod <= 0).any()) or scheduler.config.rescale_betas_zero_snr
    if zero and scheduler.config.prediction_type == "epsilon":
        raise EffaceError(
            f"the model's scheduler ({name}) has zero terminal SNR (rescale_betas_zero_snr) and predicts noise, which "
            "are incompatible: set its prediction_type to v_prediction or rescale_betas_zero_snr to false, "
            "whichever the model was trained with"
        )


def inference_timesteps(scheduler: Any, num_inference_steps: int) -> list[int]:
    """Returns the timesteps of sampling, the noisiest first, spaced as the scheduler's configuration says.

    Args:
        scheduler: a DDIM scheduler.
        num_inference_steps: their number, from 1 to the number of training timesteps.

    Raises:
        EffaceError: the number is out of range.
    """
    trained = int(scheduler.config.num_train_timesteps)
    if not 1 <= num_inference_steps <= trained:
        raise EffaceError(f"{num_inference_steps} sampling steps are not possible: give 1 to {trained} (--steps)")
    if num_inference_steps == 1:
        return [
            trained - 1
        ]  # "leading" and "linspace" would take a timestep near 0, where a model leaves noise as it is
    scheduler.set_timesteps(num_inference_steps)
    # An offset can lead beyond the last level, and rounding below the first.
    return [min(t, trained - 1) for t in scheduler.timesteps.tolist() if t >= 0]


def ddim_step(scheduler: Any, output: Tensor, t: int, next_t: int, z: Tensor) -> Tensor:
    """Takes one step of DDIM with eta = 0 (Song et al. 2021, arXiv 2010.02502, Eq. 12).

    Args:
        scheduler: a DDIM scheduler.
        output: the guided prediction, ``(B, C, H, W)``, in the model's parameterization.
        t: timestep of ``z``.
        next_t: timestep to step to; -1 for the clean latent.
        z: noisy latents, ``(B, C, H, W)``.
    """
    alpha_squared = scheduler.alphas_cumprod[t]
    next_alpha_squared = scheduler.alphas_cumprod[next_t] if next_t >= 0 else scheduler.final_alpha_cumprod
    alpha, sigma = alpha_squared**0.5, (1 - alpha_squared) ** 0.5
    if scheduler.config.prediction_type == "epsilon":
        x0, epsilon = (z - sigma * output) / alpha, output
    else:
        x0, epsilon = alpha * z - sigma * output, alpha * output + sigma * z
    if scheduler.config.clip_sample:
        x0 = x0.clamp(-scheduler.config.clip_sample_range, scheduler.config.clip_sample_range)
    return next_alpha_squared**0.5 * x0 + (1 - next_alpha_squared) ** 0.5 * epsilon  # type: ignore[no-any-return]
