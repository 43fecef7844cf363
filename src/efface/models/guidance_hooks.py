"""Guidance edits: rules that change the guided prediction while sampling and leave the weights unchanged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import Tensor

from .batch_rows import ALL_ON
from .conditioning import Conditioning


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
        without: by adapter, the conditional and the unconditional prediction without it.
        strength: the gate's strength for each prompt, ``(B, 1, 1, 1)``; None for an edit without a gate.
    """

    index: int
    num_inference_steps: int
    t: float
    guidance_scale: float
    conditional: Tensor
    unconditional: Tensor
    extra: tuple[Tensor, ...]
    guided_by_pairs: bool = True
    without: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    strength: Tensor | None = None


class PromptGate(Protocol):
    """The strength of an edit as a function of the prompt."""

    def strengths(self, cond: Conditioning) -> Tensor:
        """Returns the strength for each of B prompts, ``(B,)``."""
        ...


Rule = Callable[[Tensor, GuidedStep], Tensor]
"""Maps the guided prediction so far and the step to the new guided prediction."""


class GuidanceEdit(Protocol):
    """An edit of the guidance: a rule with fresh state for every trajectory, and the prompts that the rule needs."""

    @property
    def prompts(self) -> tuple[str, ...]:
        """Prompts to predict for at every step, in one batch with the others."""
        ...

    @property
    def adapter(self) -> str:
        """Name of the adapter without which the rule needs both predictions too; empty for none."""
        ...

    @property
    def gate(self) -> PromptGate | None:
        """The rule's gate, if it has one."""
        ...

    def new_rule(self) -> Rule:
        """Returns the rule for one trajectory."""
        ...


class LatentEdit(Protocol):
    """A change of the latents before each step of sampling."""

    def change_latent(self, z: Tensor, index: int, num_inference_steps: int, t: float, seeds: Sequence[int]) -> Tensor:
        """Returns the changed latents ``(B, C, H, W)`` of a step; ``seeds`` are those of the images."""
        ...


class GuidanceChain:
    """Classifier-free guidance, then the rules of guidance edits in order.

    Guidance is ``e_0 + s (e_c - e_0)`` (Ho and Salimans 2022, arXiv 2207.12598).

    Args:
        edits: in the order in which they apply.
        cond: conditioning of the prompts, for the edits' gates.

    Attributes:
        prompts: the prompts of all edits, in order.
        adapters: the adapters without which the rules need predictions.
    """

    def __init__(self, edits: Sequence[GuidanceEdit], cond: Conditioning | None = None) -> None:
        self.prompts = tuple(prompt for edit in edits for prompt in edit.prompts)
        self.adapters = tuple(dict.fromkeys(edit.adapter for edit in edits if edit.adapter))
        self._rules = [(edit.new_rule(), len(edit.prompts), _strength(edit, cond)) for edit in edits]

    @property
    def chunks(self) -> tuple[frozenset[str], ...]:
        """The adapters that are off in each chunk of the batch: c, u, `prompts`, then c and u without each adapter."""
        off = [frozenset({adapter}) for adapter in self.adapters for _ in range(2)]
        return (ALL_ON,) * (2 + len(self.prompts)) + tuple(off)

    def without(self, values: Sequence[Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Returns `GuidedStep.without` from the predictions of the chunks behind those for `prompts`."""
        pairs = zip(values[::2], values[1::2], strict=True)
        return dict(zip(self.adapters, pairs, strict=True))

    def __call__(self, step: GuidedStep) -> Tensor:
        """Returns the guided prediction; ``step.extra`` holds the predictions for `prompts`."""
        guided = step.unconditional + step.guidance_scale * (step.conditional - step.unconditional)
        start = 0
        for rule, count, strength in self._rules:
            guided = rule(guided, replace(step, extra=step.extra[start : start + count], strength=strength))
            start += count
        return guided


def _strength(edit: GuidanceEdit, cond: Conditioning | None) -> Tensor | None:
    if edit.gate is None or cond is None:
        return None
    return edit.gate.strengths(cond)[:, None, None, None]
