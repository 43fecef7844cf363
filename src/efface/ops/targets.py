"""Training targets and guidance: pure functions of predictions, one or two lines each.

Notation: ``e_c``, ``e_0`` and ``e_s`` are predictions ``(B, C, H, W)`` for the concept, the empty prompt and a concept
to avoid. `classifier_free_guidance` and `negative_guidance` are linear in the predictions, so that they hold in every
native parameterisation (epsilon, v or flow); only the weight of the mean squared error differs: MSE_v = MSE_eps /
alpha^2. Targets are constants: pass predictions of the frozen model, computed without gradient.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def classifier_free_guidance(e_c: Tensor, e_0: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance, e_0 + s (e_c - e_0) (Ho and Salimans 2022, arXiv 2207.12598).

    Args:
        e_c: prediction for the prompt.
        e_0: prediction for the empty prompt.
        scale: s; 1 gives e_c, 0 gives e_0.
    """
    return e_0 + scale * (e_c - e_0)


def negative_guidance(base: Tensor, e_c: Tensor, e_0: Tensor, eta: float) -> Tensor:
    """Negative guidance, base - eta (e_c - e_0) (ESD: Gandikota et al. 2023, arXiv 2303.07345).

    Args:
        base: ``e_0`` in the paper. The later released code takes the prediction for the trained prompt, by default
            ``e_c``: its eta is larger by one for the same target, since base e_c with eta + 1 is base e_0 with eta.
        e_c: prediction for the concept.
        e_0: prediction for the empty prompt.
        eta: strength; 1 in the paper.
    """
    return base - eta * (e_c - e_0)


def sld_guidance(
    e_c: Tensor,
    e_0: Tensor,
    e_s: Tensor,
    scale: float,
    threshold: float,
    clamp_mode: Literal["clamped", "printed"] = "clamped",
) -> Tensor:
    """Safety guidance gamma = mu (e_s - e_0) (SLD: Schramowski et al. 2023, arXiv 2211.05105).

    mu, element by element, is 0 where e_c - e_s >= threshold, else min(1, |scale (e_c - e_s)|). The publication prints
    max(1, ...), under which its own scales of up to 5000 diverge; its code clamps to 1.

    Args:
        e_c: prediction for the prompt.
        e_0: prediction for the empty prompt.
        e_s: prediction for the concept to avoid.
        scale: s_S; 200 (weak) to 5000 (max).
        threshold: lambda; 0 (weak) to 1 (max).
        clamp_mode: ``clamped`` as in the released code, or ``printed`` as in the publication.
    """
    phi = (scale * (e_c - e_s)).abs()
    mu = phi.clamp(max=1) if clamp_mode == "clamped" else phi.clamp(min=1)
    return torch.where(e_c - e_s < threshold, mu, torch.zeros_like(mu)) * (e_s - e_0)
