"""How far a student's predictions are from their targets, without keeping the denoiser's activations for the whole batch."""

from __future__ import annotations

import torch
from torch import Tensor

from efface.models.protocol import Conditioning

from .student import Student

PIXELS = 2**19
"""Pixels whose activations are kept at once: two images of 512 a side."""


def prediction_error(student: Student, z: Tensor, t: Tensor, cond: Conditioning, target: Tensor) -> Tensor:
    """Mean squared error of the predictions, a scalar.

    Where the text encoder is trained, the denoiser's gradient is needed for the conditioning only. A larger batch then goes through
    it in parts, each differentiated at once, so that its activations (1 GB an image of 512 pixels in bfloat16) are those of one part.

    Args:
        student: predicts.
        z: noisy latents, ``(B, C, H, W)``.
        t: timesteps, ``(B,)``.
        cond: the student's conditioning.
        target: ``(B, C, H, W)``, in the model's own parameterisation.
    """
    rows = max(1, PIXELS // student.model.image_size**2)
    if len(z) <= rows or not student.trains_text or not cond.states.requires_grad:
        return (student.predict(z, t, cond).value - target).square().mean()
    error: Tensor = torch.zeros((), device=z.device)
    for start in range(0, len(z), rows):
        part = slice(start, start + rows)
        error = error + _part(student, z[part], t[part], cond[part], target[part]) * (len(z[part]) / len(z))
    return error


def _part(student: Student, z: Tensor, t: Tensor, cond: Conditioning, target: Tensor) -> Tensor:
    """The error of one part, whose graph leads to the conditioning without the denoiser in between."""
    given = (cond.states, cond.pooled)
    leaves = [tensor.detach().requires_grad_(True) for tensor in given]
    error = (student.predict(z, t, Conditioning(*leaves)).value - target).square().mean()
    gradients = torch.autograd.grad(error, leaves, allow_unused=True)
    carried = error.detach()
    for tensor, gradient in zip(given, gradients, strict=True):
        if gradient is not None:
            carried = carried + ((tensor - tensor.detach()) * gradient).sum()
    return carried
