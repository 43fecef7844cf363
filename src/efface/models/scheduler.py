"""The noise levels that a model was trained on, and DDIM on them, whatever scheduler its pipeline came with.

Stable Diffusion 1, 2 and XL are all trained on ``z_t = alpha_t x0 + sigma_t eps`` with alpha^2 + sigma^2 = 1 over
1000 levels. SDXL's pipeline comes with Euler's sampler, which works on ``z_t / alpha_t``, starts from noise of length
sigma_max and scales it back before each pass. That is the same path in other coordinates (DDIM with eta = 0 is
Euler's method for it), so one sampler serves all families: ``predict``, ``add_noise`` and ``trajectory`` all use the
z that the denoiser reads, and sampling starts from unit noise.
"""

from __future__ import annotations

from typing import Any

from diffusers import DDIMScheduler

from efface.core.errors import EffaceError

PREDICTION_TYPES = ("epsilon", "v_prediction")


def to_ddim(scheduler: Any) -> Any:
    """Builds a DDIM scheduler on the noise levels of a pipeline's scheduler.

    Raises:
        EffaceError: the scheduler has no such noise levels, or the model's prediction type is not in
            `PREDICTION_TYPES`.
    """
    config = scheduler.config
    name = type(scheduler).__name__
    if "beta_schedule" not in config:
        raise EffaceError(f"the model's scheduler ({name}) is not Stable Diffusion's: it has no alpha and sigma")
    prediction_type = config.get("prediction_type", "epsilon")
    if prediction_type not in PREDICTION_TYPES:
        supported = " and ".join(PREDICTION_TYPES)
        raise EffaceError(f"the model predicts {prediction_type!r} ({name}); supported are {supported}")
    if isinstance(scheduler, DDIMScheduler):
        return DDIMScheduler.from_config(config)
    # Other schedulers do not set these two, and DDIM's own defaults would clip latents as if they were pixels.
    return DDIMScheduler.from_config(config, clip_sample=False, set_alpha_to_one=bool(config.get("set_alpha_to_one")))
