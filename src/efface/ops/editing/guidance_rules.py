"""Guidance rules that an erasure can hold: negative prompt, Safe Latent Diffusion and UnGuidance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from efface.core.errors import EffaceError, UnknownNameError, check_known_keys
from efface.models.guidance_hooks import GuidanceEdit, GuidedStep, PromptGate, Rule
from efface.ops.targets import classifier_free_guidance, sld_guidance

PAPER_STEPS = 50
"""Number of sampler steps that the paper's warm-up refers to."""


def _prompts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value or not all(isinstance(prompt, str) for prompt in value):
        raise EffaceError(f"a guidance edit needs a list of prompts, not {value!r}")
    return tuple(value)


@dataclass(frozen=True)
class NegativePrompt:
    """The prompts' mean prediction e_n replaces the empty prompt's: e_n + s (e_c - e_n).

    The rule adds (1 - s)(e_n - e_0) to the guided prediction so far, so that several rules can be combined. FLUX's
    prediction for a prompt is guided already; it is guided once more, e_n + w (e_c - e_n), as FLUX's pipeline does for
    a negative prompt (``true_cfg_scale``).

    Attributes:
        prompts: the negative prompts.
        true_guidance_scale: w.
    """

    adapter: ClassVar[str] = ""
    gate: ClassVar[None] = None
    prompts: tuple[str, ...]
    true_guidance_scale: float = 4.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompts", _prompts(self.prompts))

    def new_rule(self) -> Rule:
        """Returns a rule without memory."""

        def rule(guided: Tensor, step: GuidedStep) -> Tensor:
            negative = torch.stack(step.extra).mean(0)
            if not step.guided_by_pairs:
                return guided + (self.true_guidance_scale - 1) * (step.conditional - negative)
            return guided + (1 - step.guidance_scale) * (negative - step.unconditional)

        return rule


@dataclass(frozen=True)
class SafeLatentDiffusion:
    """Safe Latent Diffusion (Schramowski et al. 2023, arXiv 2211.05105): e_0 + s (e_c - e_0 - gamma).

    gamma_t = mu (e_s - e_0) + momentum nu_t and nu_{t+1} = beta_m nu_t + (1 - beta_m) gamma_t, with nu_0 = 0. gamma is
    subtracted after the warm-up; nu grows from the first step. mu is defined in `targets.sld_guidance`. The paper's
    presets (guidance_scale, threshold, momentum, momentum_decay, warmup_steps): weak 200, 0, 0, 0, 15; medium 1000,
    0.01, 0.3, 0.4, 10; strong 2000, 0.025, 0.5, 0.7, 7; max 5000, 1, 0.5, 0.7, 0.

    Attributes:
        prompts: prompts of the concept; several prompts give the mean of their predictions.
        guidance_scale: s_S, strength of the safety guidance.
        threshold: lambda.
        momentum: s_m.
        momentum_decay: beta_m.
        warmup_steps: delta, in steps of 50; rescaled for a sampler with more or fewer steps.
        clamp_mode: reading of mu (see `targets.sld_guidance`).
    """

    adapter: ClassVar[str] = ""
    gate: ClassVar[None] = None
    prompts: tuple[str, ...]
    guidance_scale: float = 1000.0
    threshold: float = 0.01
    momentum: float = 0.3
    momentum_decay: float = 0.4
    warmup_steps: int = 10
    clamp_mode: Literal["clamped", "printed"] = "clamped"

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompts", _prompts(self.prompts))
        if self.clamp_mode not in ("clamped", "printed"):
            raise UnknownNameError("reading of mu", str(self.clamp_mode), ("clamped", "printed"))

    def new_rule(self) -> Rule:
        """Returns a rule that starts with momentum nu = 0."""
        nu: Tensor | None = None

        def rule(guided: Tensor, step: GuidedStep) -> Tensor:
            nonlocal nu
            e_s = torch.stack(step.extra).mean(0)
            gamma = sld_guidance(
                step.conditional, step.unconditional, e_s, self.guidance_scale, self.threshold, self.clamp_mode
            )
            nu = torch.zeros_like(gamma) if nu is None else nu
            gamma = gamma + self.momentum * nu
            nu = self.momentum_decay * nu + (1 - self.momentum_decay) * gamma
            is_warmup = step.index * PAPER_STEPS < self.warmup_steps * step.num_inference_steps
            return guided if is_warmup else guided - step.guidance_scale * gamma

        return rule


@dataclass(frozen=True)
class UnGuidance:
    """UnGuidance (arXiv 2508.05755): w e* + (1 - w) e, with guided predictions e* without and e with an adapter.

    w is ``concept_weight`` where the gate opens for the prompt, else ``other_weight``. The rule adds w (e* - e) to the
    guided prediction so far.

    Attributes:
        adapter: name of the adapter.
        concept_weight: w1; a negative weight guides away from the model without the adapter.
        other_weight: w2; above 1 it guides away from the model with the adapter.
        gate: decides by prompt; without a gate every prompt counts as the concept's.
    """

    adapter: str
    concept_weight: float = -1.0
    other_weight: float = 2.0
    gate: PromptGate | None = None
    prompts: ClassVar[tuple[str, ...]] = ()

    def new_rule(self) -> Rule:
        """Returns a rule without memory."""

        def rule(guided: Tensor, step: GuidedStep) -> Tensor:
            is_concept = 1.0 if step.strength is None else step.strength
            weight = self.other_weight + (self.concept_weight - self.other_weight) * is_concept
            conditional, unconditional = step.without[self.adapter]
            without = classifier_free_guidance(conditional, unconditional, step.guidance_scale)
            own = classifier_free_guidance(step.conditional, step.unconditional, step.guidance_scale)
            return guided + weight * (without - own)

        return rule


RULES: dict[str, type[NegativePrompt] | type[SafeLatentDiffusion] | type[UnGuidance]] = {
    "negative_prompt": NegativePrompt,
    "sld": SafeLatentDiffusion,
    "unguide": UnGuidance,
}


def guidance_edit(params: Mapping[str, Any], gate: PromptGate | None = None) -> GuidanceEdit:
    """Builds the rule from a guidance edit's params: ``{"rule": "sld", "prompts": [...], "threshold": 0.01, ...}``.

    Args:
        params: the name of the rule and its settings.
        gate: the edit's gate, for a rule that takes one.

    Raises:
        UnknownNameError: an unknown rule or setting; the message suggests the nearest.
        EffaceError: no prompts, or a gate on a rule that takes none.
    """
    settings = {key: value for key, value in params.items() if key != "rule"}
    name = str(params.get("rule", ""))
    if name not in RULES:
        raise UnknownNameError("guidance rule", name, RULES)
    names = {field.name for field in fields(RULES[name])}
    check_known_keys(f"{name} setting", settings, names - {"gate"})
    if gate is not None and "gate" not in names:
        raise EffaceError(f"the guidance rule {name!r} takes no gate: it acts on every prompt")
    rule: Any = RULES[name]
    defaults = {"gate": gate} if "gate" in names else {"prompts": ()}
    edit: GuidanceEdit = rule(**{**defaults, **settings})
    return edit
