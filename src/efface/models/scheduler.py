"""The noise levels that a model was trained on, and DDIM on them, whatever sampler its pipeline came with.

Stable Diffusion 1, 2 and XL are all trained on ``z_t = alpha_t x0 + sigma_t eps`` with alpha^2 + sigma^2 = 1 over 1000 levels. SDXL's
pipeline comes with Euler's sampler, which works on ``z_t / alpha_t``, starts from noise of length sigma_max and scales it back before
each pass. That is the same path in other coordinates (DDIM with eta = 0 is Euler's method for it), so one sampler serves all families:
z is what the denoiser reads, ``predict``, ``noised`` and ``trajectory`` speak of the same z, and sampling starts from unit noise.
"""

from __future__ import annotations

from typing import Any

from diffusers import DDIMScheduler

from efface.core.errors import EffaceError

KINDS = ("epsilon", "v_prediction")


def ddim(scheduler: Any) -> Any:
    """DDIM on the noise levels of a pipeline's scheduler.

    Raises:
        EffaceError: a scheduler without such noise levels, or a model that predicts something else.
    """
    config = scheduler.config
    name = type(scheduler).__name__
    if "beta_schedule" not in config:
        raise EffaceError(
            f"the model's noise ({name}) is not Stable Diffusion's: there are no alpha and sigma to go by"
        )
    kind = config.get("prediction_type", "epsilon")
    if kind not in KINDS:
        raise EffaceError(f"the model predicts {kind!r} ({name}); supported are {' and '.join(KINDS)}")
    # Samplers of other kinds do not say these two, and DDIM's own defaults would clip latents as if they were pixels.
    said = (
        {}
        if isinstance(scheduler, DDIMScheduler)
        else {"clip_sample": False, "set_alpha_to_one": bool(config.get("set_alpha_to_one"))}
    )
    return DDIMScheduler.from_config(config, **said)
