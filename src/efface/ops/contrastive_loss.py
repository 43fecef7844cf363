"""Contrastive loss of predictions: nearer to a preferred prediction than to a rejected one (TRCE, arXiv 2503.07389)."""

from __future__ import annotations

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
