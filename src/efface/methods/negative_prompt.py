"""Negative prompt: guidance leads away from the concept instead of from the empty prompt; no weight changes.

    e = e(z_t, t, n) + s ( e(z_t, t, c) - e(z_t, t, n) )

with the concept n, the user's prompt c and the guidance scale s: classifier-free guidance (Ho and Salimans, arXiv
2207.12598) with another unconditional prompt. The idea came up in Stable Diffusion's user interfaces, and papers on
erasure use it as a baseline.

FLUX's denoiser is distilled, so that its prediction for one prompt is guided already. There s is 4, FLUX's
``true_cfg_scale``, and not the sampler's guidance scale.

Differences: each sampling step costs one more pass than plain guidance, because the empty prompt's prediction is still
computed for other edits. Whoever runs the sampler can switch the erasure off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.ops.training.run import Run

CARD = MethodCard(
    name="negative_prompt",
    title="Negative prompt",
    paper="Ho, Salimans: Classifier-Free Diffusion Guidance, 2022 (the unconditional prompt replaced by the concept)",
    arxiv="2207.12598",
    families=("sd1", "sd2", "sdxl", "sd3", "flux", "sana", "janus"),
    trains="",
    needs_gradient=False,
    needs_images=False,
    reconstruction=False,
    summary="Guides away from the concept's words at sampling time; changes no weight.",
    quantized=True,
)


@dataclass(frozen=True)
class Config:
    """No settings: the negative prompts are the concept's prompts, or else its words."""


PRESETS: dict[str, dict[str, object]] = {"paper": {}}


def negative_prompt(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Returns one guidance edit; it guides away from the mean prediction of all concepts' prompts."""
    prompts = [prompt for concept in concepts for prompt in (concept.prompts or concept.words)]
    return run.erasure([Edit("sampler", "guidance", params={"rule": "negative_prompt", "prompts": prompts})])
