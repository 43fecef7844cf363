"""Saliency of weights: which entries of a student's tensors matter most to a loss (SalUn, arXiv 2310.12508; ANT)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from efface.core.errors import EffaceError, UnknownNameError

from .student import Student

KEPT_ENTRIES = ("largest", "smallest")


@dataclass(frozen=True)
class SaliencyConfig:
    """Settings of the mask of several concepts.

    Attributes:
        fraction: share of each tensor's entries that a map marks.
        num_maps: maps of each concept, from other samples of its loss.
        num_steps: steps of gradient descent whose gradients a map sums.
        learning_rate: learning rate of these steps.
        kept: gradients that a map marks, ``largest`` or ``smallest``.
    """

    fraction: float
    num_maps: int
    num_steps: int
    learning_rate: float
    kept: str = "largest"

    def mask(self, student: Student, concept_losses: Sequence[Callable[[], Tensor]]) -> dict[str, Tensor]:
        """Marks the entries that all maps of any concept mark: 1, all others 0.

        Args:
            student: its tensors must be the original's, to which they return.
            concept_losses: for each concept, a function that samples the loss of one step.

        Raises:
            UnknownNameError: an unknown value of ``kept``.
            EffaceError: fewer than one map or step, or a fraction outside of its range.
        """
        if min(self.num_maps, self.num_steps) < 1:
            raise EffaceError(
                f"{self.num_maps} saliency maps of {self.num_steps} steps mark nothing: set saliency_maps and "
                "saliency_steps to 1 or more, or saliency_fraction=1"
            )
        union: dict[str, Tensor] = {}
        for loss in concept_losses:
            mask: dict[str, Tensor] = {}
            for _ in range(self.num_maps):
                gradients = summed_gradients(student, loss, self.num_steps, self.learning_rate)
                new = saliency_mask(gradients, self.fraction, self.kept)
                mask = {name: mask.get(name, entries) * entries for name, entries in new.items()}
            union = {name: torch.maximum(union.get(name, entries), entries) for name, entries in mask.items()}
        return union


def summed_gradients(
    student: Student, loss: Callable[[], Tensor], num_steps: int, learning_rate: float
) -> dict[str, Tensor]:
    """Sums the gradients of a few steps of gradient descent from the original tensors, to which the student returns.

    Args:
        student: its tensors must be the original's.
        loss: computes the loss of one step with the student.
        num_steps: number of steps.
        learning_rate: learning rate of these steps.

    Returns:
        The sum by name of the tensor; zeros where the loss has no gradient.
    """
    parameters = student.trainable_params
    sums = {name: torch.zeros_like(tensor) for name, tensor in parameters.items()}
    for _ in range(num_steps):
        gradients = torch.autograd.grad(loss(), list(parameters.values()), allow_unused=True)
        with torch.no_grad():
            for (name, tensor), gradient in zip(parameters.items(), gradients, strict=True):
                if gradient is not None:
                    sums[name] += gradient
                    tensor -= learning_rate * gradient
    with torch.no_grad():
        for name, tensor in parameters.items():
            tensor.copy_(student.group.parameters[name])
    return sums


def saliency_mask(gradients: Mapping[str, Tensor], fraction: float, kept: str = "largest") -> dict[str, Tensor]:
    """Marks a share of each tensor's entries by the magnitude of their gradient, at least one.

    Args:
        gradients: by name of the tensor.
        fraction: share of the entries, above 0 and at most 1.
        kept: ``largest``, or ``smallest`` as in ANT's released code.

    Returns:
        1 for the marked entries and 0 for all others, in the shapes of the gradients.

    Raises:
        UnknownNameError: another value of ``kept``.
        EffaceError: a fraction outside of its range.
    """
    if kept not in KEPT_ENTRIES:
        raise UnknownNameError("kept entries", kept, KEPT_ENTRIES)
    if not 0 < fraction <= 1:
        raise EffaceError(f"a mask of a share of {fraction:g} of the weights: set saliency_fraction above 0, at most 1")
    masks = {}
    for name, gradient in gradients.items():
        order = gradient.abs().flatten().argsort(descending=kept == "largest", stable=True)
        mask = torch.zeros(gradient.numel(), dtype=gradient.dtype, device=gradient.device)
        mask[order[: max(1, round(fraction * len(order)))]] = 1
        masks[name] = mask.view_as(gradient)
    return masks
