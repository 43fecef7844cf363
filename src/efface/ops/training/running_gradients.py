"""Gradients that are summed over a whole run, as in released code that never clears them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class RunningGradientSum:
    """The sum of all gradients so far; part of a checkpoint (``extra`` of a run's steps).

    Adam divides by the size of what it is given, so that such a sum does not take larger steps but one direction: momentum without end.

    Args:
        parameters: the leaf tensors that are trained, by name.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._parameters = dict(parameters)
        self.sums = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}

    def add(self) -> None:
        """Adds the gradients that are there to the sum, and puts the sum in their place: between a step's backward and its update."""
        for name, parameter in self._parameters.items():
            if parameter.grad is not None:
                self.sums[name] += parameter.grad
            parameter.grad = self.sums[name].clone()

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold."""
        return dict(self.sums)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state` returned."""
        self.sums = {name: state[name].to(self.sums[name]) for name in self.sums}
