"""Gradients summed over a whole run, as in released code that never clears them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class RunningGradientSum:
    """The sum of all gradients so far, part of a checkpoint (``extra_state`` of `Run.steps`).

    Adam divides the gradient by its own magnitude, so that the sum does not enlarge the steps: it acts as momentum
    without decay.

    Args:
        parameters: trained leaf tensors by name.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._parameters = dict(parameters)
        self.sums = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}

    def accumulate(self) -> None:
        """Adds the parameters' gradients to the sum and replaces them by it; call it between backward and update."""
        for name, parameter in self._parameters.items():
            if parameter.grad is not None:
                self.sums[name] += parameter.grad
            parameter.grad = self.sums[name].clone()

    def state(self) -> dict[str, Tensor]:
        """Returns the sums by parameter name."""
        return dict(self.sums)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores the sums that `state` returned."""
        self.sums = {name: state[name].to(self.sums[name]) for name in self.sums}
