"""Rules of guidance that an erasure can hold: negative prompt and Safe Latent Diffusion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor

from efface.core.errors import EffaceError, UnknownNameError, check_known_keys
from efface.models.guidance_hooks import GuidanceEdit, GuidedStep, Rule
from efface.ops.targets import sld_guidance

PAPER_STEPS = 50
"""Steps of the sampler that the paper's warm-up counts."""


def _prompts(value: object) -> tuple[str, ...]:
    if (
        isinstance(value, str)
        or not isinstance(value, list | tuple)
        or not value
        or not all(isinstance(p, str) for p in value)
    ):
        raise EffaceError(f"a guidance edit needs a list of prompts, not {value!r}")
    return tuple(value)


@dataclass(frozen=True)
class NegativePrompt:
    """The prompts' mean prediction e_n takes the place of the empty prompt's: e_n + s (e_c - e_n).

    Added to the guidance so far as (1 - s)(e_n - e_0), so that several edits go together.
    """

    prompts: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompts", _prompts(self.prompts))

    def new_rule(self) -> Rule:
        """Has no memory."""

        def rule(guided: Tensor, step: GuidedStep) -> Tensor:
            negative = torch.stack(step.extra).mean(0)
            return guided + (1 - step.guidance) * (negative - step.unconditional)

        return rule


@dataclass(frozen=True)
class SafeLatentDiffusion:
    """Safe Latent Diffusion (Schramowski et al. 2023, arXiv 2211.05105): e_0 + s (e_c - e_0 - gamma).

    gamma_t = mu (e_s - e_0) + momentum nu_t and nu_{t+1} = beta nu_t + (1 - beta) gamma_t, with nu_0 = 0; gamma is subtracted after
    `warmup`, while nu grows from the first step. mu is that of `targets.sld_guidance`. Presets of the paper (scale, threshold, momentum,
    beta, warmup): weak 200, 0, 0, 0, 15; medium 1000, 0.01, 0.3, 0.4, 10; strong 2000, 0.025, 0.5, 0.7, 7; max 5000, 1, 0.5, 0.7, 0.

    Attributes:
        prompts: the concept in words; several prompts give the mean of their predictions.
        scale: s_S. threshold: lambda. momentum: s_m. beta: beta_m. warmup: delta, in steps of 50; the
            same share of a sampler that has more or fewer.
        limit: the reading of mu.
    """

    prompts: tuple[str, ...]
    scale: float = 1000.0
    threshold: float = 0.01
    momentum: float = 0.3
    beta: float = 0.4
    warmup: int = 10
    limit: Literal["clamped", "printed"] = "clamped"

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompts", _prompts(self.prompts))
        if self.limit not in ("clamped", "printed"):
            raise UnknownNameError("reading of mu", str(self.limit), ("clamped", "printed"))

    def new_rule(self) -> Rule:
        """Starts with momentum nu = 0."""
        nu: Tensor | None = None

        def rule(guided: Tensor, step: GuidedStep) -> Tensor:
            nonlocal nu
            safe = torch.stack(step.extra).mean(0)
            gamma = sld_guidance(step.conditional, step.unconditional, safe, self.scale, self.threshold, self.limit)
            nu = torch.zeros_like(gamma) if nu is None else nu
            gamma = gamma + self.momentum * nu
            nu = self.beta * nu + (1 - self.beta) * gamma
            return guided - step.guidance * gamma if step.index * PAPER_STEPS >= self.warmup * step.steps else guided

        return rule


RULES: dict[str, type[NegativePrompt] | type[SafeLatentDiffusion]] = {
    "negative_prompt": NegativePrompt,
    "sld": SafeLatentDiffusion,
}


def guidance_edit(params: Mapping[str, Any]) -> GuidanceEdit:
    """The rule that a guidance edit's params describe: ``{"rule": "sld", "prompts": [...], "scale": 1000, ...}``.

    Raises:
        UnknownName: no such rule or number; the nearest is suggested.
        EffaceError: no prompts.
    """
    given = {key: value for key, value in params.items() if key != "rule"}
    name = str(params.get("rule", ""))
    if name not in RULES:
        raise UnknownNameError("guidance rule", name, RULES)
    check_known_keys(f"{name} setting", given, (field.name for field in fields(RULES[name])))
    return RULES[name](**{"prompts": (), **given})
