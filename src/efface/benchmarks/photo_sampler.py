"""How a benchmark samples photographs and paintings: by default as the model's own pipeline does."""

from __future__ import annotations

from efface.models.editable import EditableModel

from .samples import Sampler

SAMPLER = Sampler("ddim", 50, 7.5)
"""Stable Diffusion 1, 2 and XL."""
FLOW_SAMPLERS = {"sd3": Sampler("euler", 28, 7.0), "flux": Sampler("euler", 28, 3.5), "sana": Sampler("euler", 20, 4.5)}
"""By family; steps and guidance scale as in the families' published examples."""
WITHOUT_GUIDANCE = Sampler("euler", 4, 0.0)
"""FLUX.1-schnell."""


def photo_sampler(model: EditableModel) -> Sampler:
    """Returns the sampler of a model of photographs."""
    if model.family == "flux" and not model.default_guidance_scale:
        return WITHOUT_GUIDANCE
    return FLOW_SAMPLERS.get(model.family, SAMPLER)
