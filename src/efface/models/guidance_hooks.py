"""Edits of the guidance: rules that change the guided prediction while sampling, the weights left as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class GuidedStep:
    """What a rule may look at in one step of sampling; predictions ``(B, C, H, W)`` in the model's native parameterisation.

    Attributes:
        index: number of the step, 0 the noisiest; steps: how many there are; t: the timestep.
        guidance: the classifier-free guidance scale s.
        conditional: prediction for the prompt; unconditional: for the empty one.
        extra: predictions for the rule's own prompts.
    """

    index: int
    steps: int
    t: int
    guidance: float
    conditional: Tensor
    unconditional: Tensor
    extra: tuple[Tensor, ...]


Rule = Callable[[Tensor, GuidedStep], Tensor]
"""From the guided prediction so far and the step to the new guided prediction."""


class GuidanceEdit(Protocol):
    """An edit of the guidance: the prompts whose predictions it needs, and a rule with fresh memory for every trajectory."""

    @property
    def prompts(self) -> tuple[str, ...]:
        """Prompts to predict for at every step, in one batch with the others."""
        ...

    def new_rule(self) -> Rule:
        """The rule for one trajectory."""
        ...


class GuidanceChain:
    """Classifier-free guidance ``e_0 + s (e_c - e_0)`` (Ho and Salimans 2022, arXiv 2207.12598), then the rules in order.

    Args:
        edits: in the order in which they were applied.
    """

    def __init__(self, edits: Sequence[GuidanceEdit]) -> None:
        self.prompts = tuple(prompt for edit in edits for prompt in edit.prompts)
        self._rules = [(edit.new_rule(), len(edit.prompts)) for edit in edits]

    def __call__(self, step: GuidedStep) -> Tensor:
        """The guided prediction; ``step.extra`` holds the predictions for all `prompts`."""
        guided = step.unconditional + step.guidance * (step.conditional - step.unconditional)
        used = 0
        for rule, count in self._rules:
            extra = step.extra[used : used + count]
            guided = rule(
                guided,
                GuidedStep(step.index, step.steps, step.t, step.guidance, step.conditional, step.unconditional, extra),
            )
            used += count
        return guided
