"""Negative prompt: at sampling time, guidance leads away from the concept instead of from the empty prompt; no weight changes.

    e = e(z_t, t, n) + s ( e(z_t, t, c) - e(z_t, t, n) )

with n the concept and c the user's prompt. The folk baseline of every paper on erasure (it came up with Stable Diffusion's user
interfaces; Ho and Salimans' guidance, arXiv 2207.12598, with another unconditional prompt). It costs one more pass a step than plain
guidance here, because the empty prompt's prediction is still made for other edits. Whoever runs the sampler can switch it off.
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
    families=("sd1", "sd2", "sdxl"),
    trains="",
    needs_gradient=False,
    needs_images=False,
    vram={},
    minutes={},
    reconstruction=False,
    summary="Guides away from the concept's words at sampling time; changes no weight.",
)


@dataclass(frozen=True)
class Config:
    """Nothing to set: the prompts are the concept's prompts, else its words."""


PRESETS: dict[str, dict[str, object]] = {"paper": {}}


def negative_prompt(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """One guidance edit; the prompts of several concepts give the mean of their predictions."""
    prompts = [prompt for concept in concepts for prompt in (concept.prompts or concept.words)]
    return run.erasure([Edit("sampler", "guidance", params={"rule": "negative_prompt", "prompts": prompts})])
