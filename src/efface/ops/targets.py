"""What a prediction is trained towards: pure functions of predictions, each a line or two.

All are linear in the predictions (but `sld_guidance`), so they hold in whatever parameterisation the model speaks (epsilon, v or flow);
only the weight of the mean squared error differs between them: MSE_v = MSE_eps / alpha^2. Notation: ``e_c``, ``e_0``, ``e_a``, ``e_s``
are predictions ``(B, C, H, W)`` for the target concept, the empty prompt, the anchor and a concept to stay away from. Targets are
constants: pass predictions of the frozen model, made without gradient.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def guidance_term(e_c: Tensor, e_0: Tensor) -> Tensor:
    """What the prompt adds, G = e_c - e_0: the direction of classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598)."""
    return e_c - e_0


def guided(e_c: Tensor, e_0: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance, e_0 + s (e_c - e_0); s = 1 gives e_c, s = 0 gives e_0."""
    return e_0 + scale * (e_c - e_0)


def neg_guidance(base: Tensor, e_c: Tensor, e_0: Tensor, eta: float) -> Tensor:
    """Negative guidance, base - eta (e_c - e_0) (ESD: Gandikota et al. 2023, arXiv 2303.07345).

    Args:
        base: ``e_0`` in the paper. The code released later takes the prediction for the prompt that is trained, ``e_c`` unless
            another was given, so that its eta is larger by one for the same target: base e_c with eta + 1 is base e_0 with eta.
        e_c: for the concept.
        e_0: for the empty prompt.
        eta: strength; 1 in the paper.
    """
    return base - eta * (e_c - e_0)


def anchor(e_a: Tensor) -> Tensor:
    """The prediction for the anchor's prompt as a constant (Concept Ablation: Kumari et al. 2023, arXiv 2303.13516)."""
    return e_a.detach()


def uncond(e_0: Tensor) -> Tensor:
    """The unconditional prediction as a constant: the empty prompt is the anchor; the same as `neg_guidance` on e_0 with eta = 0."""
    return e_0.detach()


def noise(sample: Tensor) -> Tensor:
    """The noise that was added, as in ordinary denoising training (prior preservation, and Concept Ablation's noise-based variant)."""
    return sample.detach()


def velocity(x0: Tensor, sample: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The velocity alpha eps - sigma x0 of latent x0 and noise eps (Salimans and Ho 2022, arXiv 2202.00512)."""
    return (alpha * sample - sigma * x0).detach()


def correction(e_r: Tensor, e_0: Tensor, weights: Tensor) -> Tensor:
    """What retained concepts add, sum_j w_j (e_r_j - e_0) (ACE: Wang et al. 2025, arXiv 2501.01633).

    Args:
        e_r: predictions for the retained concepts, ``(J, B, C, H, W)``.
        e_0: for the empty prompt, ``(B, C, H, W)``.
        weights: how near each is to the target, ``(J,)``.
    """
    return torch.einsum("j,j...->...", weights, e_r - e_0)


def uncond_plus(e_0: Tensor, e_c: Tensor, corr: Tensor, negative: float, surrogate: float) -> Tensor:
    """The unconditional moved towards the concept, so that guidance subtracts it: e_0 + n (e_c - e_0) - s corr (ACE, arXiv 2501.01633)."""
    return e_0 + negative * (e_c - e_0) - surrogate * corr


def sld_guidance(
    e_c: Tensor,
    e_0: Tensor,
    e_s: Tensor,
    scale: float,
    threshold: float,
    limit: Literal["clamped", "printed"] = "clamped",
) -> Tensor:
    """Safety guidance gamma = mu (e_s - e_0) (SLD: Schramowski et al. 2023, arXiv 2211.05105).

    mu, element by element, is 0 where e_c - e_s >= threshold, else min(1, |scale (e_c - e_s)|). The publication prints max(1, ...),
    under which its own scales of up to 5000 diverge, and its code clamps to 1: ``printed`` is that formula, ``clamped`` the default.

    Args:
        e_c: for the prompt.
        e_0: for the empty prompt.
        e_s: for the concept to stay away from.
        scale: s_S; 200 (weak) to 5000 (max).
        threshold: lambda; 0 (weak) to 1 (max).
        limit: which reading of mu.
    """
    phi = (scale * (e_c - e_s)).abs()
    mu = phi.clamp(max=1) if limit == "clamped" else phi.clamp(min=1)
    return torch.where(e_c - e_s < threshold, mu, torch.zeros_like(mu)) * (e_s - e_0)


def negative_prompt(e_c: Tensor, e_0: Tensor, e_n: Tensor, scale: float) -> Tensor:
    """Guidance away from a prompt: `guided` with e_n in place of e_0, written as what it adds to it, (1 - s)(e_n - e_0)."""
    return guided(e_c, e_0, scale) + (1 - scale) * (e_n - e_0)
