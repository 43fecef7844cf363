"""Attack on the text's states at one timestep by signed gradients (R.A.C.E., arXiv 2405.16341)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from efface.core.errors import EffaceError
from efface.models.protocol import Conditioning


@dataclass(frozen=True)
class ConditioningAttack:
    """Projected gradient descent in the l-infinity ball around a prompt's states (Madry et al., arXiv 1706.06083).

    Attributes:
        radius: largest change of an entry of the states.
        num_steps: number of steps.
        relative_step: change of an entry in one step, as a share of the radius; 1/4 in R.A.C.E.

    Raises:
        EffaceError: a radius or a step that is not above 0, or fewer than one step.
    """

    radius: float
    num_steps: int
    relative_step: float = 0.25

    def __post_init__(self) -> None:
        if self.radius <= 0 or self.relative_step <= 0 or self.num_steps < 1:
            raise EffaceError(
                f"an attack of {self.num_steps} steps in a radius of {self.radius:g} changes nothing: set a radius "
                "above 0 and 1 step or more"
            )

    def search(
        self, loss: Callable[[Conditioning], Tensor], cond: Conditioning, generator: torch.Generator
    ) -> Conditioning:
        """Searches states near the given ones that make a loss small; the pooled state is not attacked.

        The states of all tokens move, also those of the padding. No entry leaves the range of its prompt's entries.

        Args:
            loss: of the conditioning, a scalar; a sum over the rows, so that they do not weaken each other.
            cond: conditioning of B prompts.
            generator: draws the random start, on the CPU.
        """
        original = cond.states.detach().float()
        low = torch.maximum(original - self.radius, original.amin((1, 2), keepdim=True))
        high = torch.minimum(original + self.radius, original.amax((1, 2), keepdim=True))
        noise = 2 * torch.rand(original.shape, generator=generator) - 1
        states = (original + self.radius * noise.to(original.device)).clamp(low, high)
        for _ in range(self.num_steps):
            states.requires_grad_(True)
            value = loss(replace(cond, states=states.to(cond.states.dtype)))
            (gradient,) = torch.autograd.grad(value, states)
            states = (states.detach() - self.relative_step * self.radius * gradient.sign()).clamp(low, high)
        return replace(cond, states=states.to(cond.states.dtype))
