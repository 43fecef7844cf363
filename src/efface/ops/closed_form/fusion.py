"""Fusing many LoRAs into one set of weights in closed form (MACE, arXiv 2403.06135).

For each concept j a LoRA B_j A_j was trained on the refined weights W_r = W (I + E). The fused W' maps the concept's
states K_j as its own LoRA does, and the preserved states R as the original does:

    sum_j |W' K_j - (W_r + B_j A_j) K_j|^2 + s |W' R - W R|^2 + lambda |W' - W_r|_F^2 -> min

With S_j = K_j K_j^T and C = R R^T this is

    W' = W_r + [ sum_j B_j A_j S_j - s W E C ] Phi,        Phi = (lambda I + sum_j S_j + s C)^-1

where Phi is the same for all layers, as in `efface.ops.closed_form.solve`; only A_j S_j and W differ between layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .low_rank import LowRankUpdate
from .problem import Pairs, Preserve
from .solve import Problem


@dataclass(frozen=True)
class Fusion:
    """The fusion problem.

    Attributes:
        refined: E.
        states: K_j ``(d, n_j)`` of each concept.
        preserve: R with weights, or s C.
        ridge: lambda.
    """

    refined: LowRankUpdate
    states: Sequence[Tensor]
    preserve: Preserve = field(default_factory=Preserve)
    ridge: float = 0.0

    @property
    def problem(self) -> Problem:
        """The least-squares problem that has this Phi; its pairs are their own anchors."""
        states = torch.cat(list(self.states), dim=1)
        return Problem(Pairs(states, states, torch.ones(states.shape[1])), self.preserve, self.ridge)

    def solve(
        self, weights: Mapping[str, Tensor], adapters: Sequence[Mapping[str, tuple[Tensor, Tensor]]]
    ) -> tuple[dict[str, Tensor], float]:
        """Returns W' - W of every layer, float64, and the condition number of the system.

        Args:
            weights: W ``(o, d)`` by name.
            adapters: for each concept B ``(o, r)`` and A ``(r, d)`` by the same names.

        Raises:
            EffaceError: the system is singular.
        """
        factor, e = self.problem.factor, self.refined.dense()
        preserved = self.preserve.second_moment(len(e))
        shared = e - factor((e @ preserved).T).T if bool(preserved.any()) else e
        moments = [states @ states.T for states in self.states]
        deltas: dict[str, Tensor] = {}
        for name, weight in weights.items():
            delta = weight.detach().double().cpu() @ shared
            for adapter, moment in zip(adapters, moments, strict=True):
                up, down = adapter[name]
                delta = delta + up @ factor((down @ moment).T).T
            deltas[name] = delta
        return deltas, factor.condition
