"""Contrastive losses: of predictions (TRCE, arXiv 2503.07389) and of attention (EraseAnything, arXiv 2412.20413)."""

from __future__ import annotations

import torch
from torch import Tensor


def contrastive_hinge(prediction: Tensor, preferred: Tensor, rejected: Tensor, slope: float, margin: float) -> Tensor:
    """Computes max(0, slope (|e - preferred|^2 - |e - rejected|^2 + margin)) for each prediction e; their mean.

    Args:
        prediction: e, ``(B, C, H, W)``; ``|.|^2`` is the mean over a latent.
        preferred: ``(B, C, H, W)``.
        rejected: ``(B, C, H, W)``.
        slope: slope of the hinge.
        margin: distance by which the preferred prediction must be nearer.
    """
    distances = [(prediction - other).square().flatten(1).mean(1) for other in (preferred, rejected)]
    return (slope * (distances[0] - distances[1] + margin)).clamp(min=0).mean()


def reverse_contrast(concept: Tensor, synonym: Tensor, irrelevant: Tensor, temperature: float) -> Tensor:
    """Computes the log probability that a synonym's vector belongs to the concept's and not to irrelevant ones; mean.

    Minimising it moves the concept away from its synonym, towards the irrelevant vectors: the reverse of InfoNCE.

    Args:
        concept: vectors u of norm 1, ``(B, D)``.
        synonym: vectors s of norm 1, ``(B, D)``.
        irrelevant: vectors of norm 1, ``(B, K, D)``.
        temperature: divides the cosines.
    """
    candidates = torch.cat([concept[:, None], irrelevant], dim=1)
    return ((candidates @ synonym[..., None])[..., 0] / temperature).log_softmax(1)[:, 0].mean()
