"""Guidance edits: rules that change the guided prediction while sampling and leave the weights unchanged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class GuidedStep:
    """The inputs of a rule in one step of sampling; predictions ``(B, C, H, W)`` are in the native parameterization.

    Attributes:
        index: number of the step; 0 is the noisiest.
        num_inference_steps: number of steps.
        t: timestep.
        guidance_scale: classifier-free guidance scale s.
        conditional: prediction for the prompt.
        unconditional: prediction for the empty prompt.
        extra: predictions for the prompts of the rule's edit.
        guided_by_pairs: whether the model is guided by the difference of both predictions; else (FLUX) the prediction
            for the prompt is guided already, and ``guidance_scale`` is 1.
    """

    index: int
    num_inference_steps: int
    t: float
    guidance_scale: float
    conditional: Tensor
    unconditional: Tensor
    extra: tuple[Tensor, ...]
    guided_by_pairs: bool = True


Rule = Callable[[Tensor, GuidedStep], Tensor]
"""Maps the guided prediction so far and the step to the new guided prediction."""


class GuidanceEdit(Protocol):
    """An edit of the guidance: a rule with fresh state for every trajectory, and the prompts that the rule needs."""

    @property
    def prompts(self) -> tuple[str, ...]:
        """Prompts to predict for at every step, in one batch with the others."""
        ...

    def new_rule(self) -> Rule:
        """Returns the rule for one trajectory."""
        ...


class GuidanceChain:
    """Classifier-free guidance, then the rules of guidance edits in order.

    Guidance is ``e_0 + s (e_c - e_0)`` (Ho and Salimans 2022, arXiv 2207.12598).

    Args:
        edits: in the order in which they apply.

    Attributes:
        prompts: the prompts of all edits, in order.
    """

    def __init__(self, edits: Sequence[GuidanceEdit]) -> None:
        self.prompts = tuple(prompt for edit in edits for prompt in edit.prompts)
        self._rules = [(edit.new_rule(), len(edit.prompts)) for edit in edits]

    def __call__(self, step: GuidedStep) -> Tensor:
        """Returns the guided prediction; ``step.extra`` holds the predictions for `prompts`."""
        guided = step.unconditional + step.guidance_scale * (step.conditional - step.unconditional)
        start = 0
        for rule, count in self._rules:
            guided = rule(guided, replace(step, extra=step.extra[start : start + count]))
            start += count
        return guided
