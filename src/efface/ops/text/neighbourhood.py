"""Neighbourhoods of text encoder states: random states within a range of cosines (RealEra, arXiv 2410.09140)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from efface.models.protocol import Conditioning

from .embedding_sampling import sample_around


@dataclass(frozen=True)
class Neighbourhood:
    """The states e' around a state e with the same norm and a cosine within a range.

    Attributes:
        min_cosine: smallest cosine of e and e'.
        max_cosine: largest cosine of e and e'.
        max_distance: largest ``|e' - e| / |e|``; 0 for no bound.
        basis: directions in which e' may differ from e, orthonormal columns ``(d, q)``; None for all.
    """

    min_cosine: float
    max_cosine: float
    max_distance: float = 0.0
    basis: Tensor | None = None

    def sample(self, states: Tensor, num_samples: int, generator: torch.Generator) -> Tensor:
        """Samples ``num_samples`` states around each column of ``(d, m)``: ``(d, m * num_samples)``, float64.

        Raises:
            EffaceError: the bounds leave no cosine, or the basis leaves no direction.
        """
        cosines = (self.min_cosine, self.max_cosine)
        return sample_around(states, num_samples, cosines, generator, max_distance=self.max_distance, basis=self.basis)

    def perturb(self, cond: Conditioning, mask: Tensor, generator: torch.Generator) -> Conditioning:
        """Replaces each state under a bool mask ``(B, L)`` by a sample around it."""
        states = cond.states.detach().clone()
        states[mask] = self.sample(states[mask].double().cpu().T, 1, generator).T.to(states)
        return Conditioning(states, cond.pooled)
