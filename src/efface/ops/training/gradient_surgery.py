"""Gradient surgery: an update that does not undo what another loss retains (PCGrad, arXiv 2001.06782; DoCo)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from efface.core.errors import UnknownNameError

SCALES = ("projection", "released")


def project_gradient(gradient: Tensor, retained: Tensor, strength: float = 1.0, scale: str = "projection") -> Tensor:
    """Removes from a gradient g what opposes the gradient p of a loss to retain; unchanged where <g, p> >= 0.

        projection    g - strength <g, p> p / |p|^2      with strength 1 orthogonal to p
        released      g - strength cos(g, p) p / |p|     as in DoCo's code, which leaves out |g|

    In the second form the change does not shrink with g: a small g becomes a step that descends the loss to retain.

    Args:
        gradient: g of one tensor.
        retained: p of the same tensor.
        strength: share of the opposing part that is removed.
        scale: one of `SCALES`.

    Raises:
        UnknownNameError: an unknown scale.
    """
    if scale not in SCALES:
        raise UnknownNameError("gradient surgery", scale, SCALES)
    dot, squared = (gradient * retained).sum(), retained.square().sum()
    if not bool(dot < 0):
        return gradient
    factor = dot / squared if scale == "projection" else dot / (gradient.norm() * squared)
    return gradient - strength * factor * retained


@dataclass(frozen=True)
class GradientSurgery:
    """Surgery of the gradients of several tensors, each on its own.

    Attributes:
        strength: share of the opposing part that is removed.
        scale: one of `SCALES`.
        max_grad_norm: largest norm of either gradient over all tensors; larger ones are scaled down first.
    """

    strength: float = 1.0
    scale: str = "projection"
    max_grad_norm: float = 1.0

    def apply(self, parameters: Mapping[str, Tensor], retained_loss: Tensor) -> None:
        """Changes the gradients that the parameters hold, so that they do not oppose a loss to retain.

        Call it between `Step.backward` and `Step.update`. The loss to retain is not descended itself.

        Args:
            parameters: leaf tensors by name.
            retained_loss: a scalar of these parameters.
        """
        computed = torch.autograd.grad(retained_loss, list(parameters.values()), allow_unused=True)
        pairs = zip(parameters.items(), computed, strict=True)
        retained = {name: gradient for (name, _), gradient in pairs if gradient is not None}
        held = {name: p.grad for name, p in parameters.items() if p.grad is not None}
        factor, retained_factor = self._clip_factor(held), self._clip_factor(retained)
        for name, gradient in held.items():
            changed = gradient * factor
            if name in retained:
                changed = project_gradient(changed, retained[name] * retained_factor, self.strength, self.scale)
            parameters[name].grad = changed

    def _clip_factor(self, gradients: Mapping[str, Tensor]) -> Tensor:
        norm = torch.nn.utils.get_total_norm(list(gradients.values()))
        return (self.max_grad_norm / (norm + 1e-6)).clamp(max=1)
