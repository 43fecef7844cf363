"""Prediction error of a student that does not keep the denoiser's activations of the whole batch in memory."""

from __future__ import annotations

import torch
from torch import Tensor

from efface.models.protocol import Conditioning

from .trained_model import TrainedModel

MAX_PIXELS = 2**19
"""Pixels whose activations are kept at the same time: two images of 512 x 512."""


def prediction_error(student: TrainedModel, z: Tensor, t: Tensor, cond: Conditioning, target: Tensor) -> Tensor:
    """Mean squared error of the student's predictions, a scalar.

    If the text encoder is trained, the denoiser's gradient is needed only with respect to the conditioning. A batch of
    more than `MAX_PIXELS` then passes the denoiser in chunks, each differentiated immediately, so that memory holds the
    activations of one chunk (1 GB an image of 512 x 512 in bfloat16).

    Args:
        student: makes the predictions.
        z: noisy latents, ``(B, C, H, W)``.
        t: timesteps, ``(B,)``.
        cond: the student's conditioning.
        target: ``(B, C, H, W)``, in the model's own parameterisation.
    """
    chunk_size = max(1, MAX_PIXELS // student.model.image_size**2)
    if len(z) <= chunk_size or not student.trains_text or not cond.states.requires_grad:
        return (student.predict(z, t, cond).value - target).square().mean()
    error: Tensor = torch.zeros((), device=z.device)
    for start in range(0, len(z), chunk_size):
        rows = slice(start, start + chunk_size)
        error = error + _chunk_error(student, z[rows], t[rows], cond[rows], target[rows]) * (len(z[rows]) / len(z))
    return error


def _chunk_error(student: TrainedModel, z: Tensor, t: Tensor, cond: Conditioning, target: Tensor) -> Tensor:
    """Error of one chunk; its graph leads directly to the conditioning, without the denoiser in between.

    The returned value adds <c - c.detach(), dL/dc> for every conditioning tensor c: a sum of zeros whose gradient is
    the one computed here.
    """
    inputs = (cond.states, cond.pooled)
    leaves = [tensor.detach().requires_grad_(True) for tensor in inputs]
    error = (student.predict(z, t, Conditioning(*leaves)).value - target).square().mean()
    gradients = torch.autograd.grad(error, leaves, allow_unused=True)
    surrogate = error.detach()
    for tensor, gradient in zip(inputs, gradients, strict=True):
        if gradient is not None:
            surrogate = surrogate + ((tensor - tensor.detach()) * gradient).sum()
    return surrogate
