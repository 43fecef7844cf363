"""Many LoRAs in one set of weights, in closed form (MACE, arXiv 2403.06135).

For each concept j a LoRA B_j A_j was trained on the refined weights W_r = W (I + E). The fused W' is to answer the concept's states K_j
as its own LoRA does, and what must stay, R, as the original does:

    sum_j |W' K_j - (W_r + B_j A_j) K_j|^2 + s |W' R - W R|^2 + lambda |W' - W_r|_F^2 -> min

With S_j = K_j K_j^T and C = R R^T this is

    W' = W_r + [ sum_j B_j A_j S_j - s W E C ] Phi,        Phi = (lambda I + sum_j S_j + s C)^-1

where Phi is one for all layers, as in `efface.ops.closed_form.solve`; only A_j S_j and W are a layer's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .low_rank import LowRank
from .solve import Pairs, Preserve, Problem


@dataclass(frozen=True)
class Fusion:
    """What is fused.

    Attributes:
        refined: E.
        states: K_j ``(d, n_j)`` of each concept.
        preserve: R with weights, or s C.
        ridge: lambda.
    """

    refined: LowRank
    states: Sequence[Tensor]
    preserve: Preserve = field(default_factory=Preserve)
    ridge: float = 0.0

    @property
    def problem(self) -> Problem:
        """The problem that Phi is of; its pairs are their own anchors."""
        every = torch.cat(list(self.states), dim=1)
        return Problem(Pairs(every, every, torch.ones(every.shape[1])), self.preserve, self.ridge)

    def solve(
        self, weights: Mapping[str, Tensor], adapters: Sequence[Mapping[str, tuple[Tensor, Tensor]]]
    ) -> tuple[dict[str, Tensor], float]:
        """W' - W of every layer, float64, and the condition of the system.

        Args:
            weights: W ``(o, d)`` by name.
            adapters: for each concept B ``(o, r)`` and A ``(r, d)`` by the same names.

        Raises:
            EffaceError: the system is singular.
        """
        factor, e = self.problem.factor, self.refined.dense()
        kept = self.preserve.second_moment(len(e))
        shared = e - factor((e @ kept).T).T if bool(kept.any()) else e
        moments = [states @ states.T for states in self.states]
        deltas: dict[str, Tensor] = {}
        for name, weight in weights.items():
            delta = weight.detach().double().cpu() @ shared
            for adapter, moment in zip(adapters, moments, strict=True):
                up, down = adapter[name]
                delta = delta + up @ factor((down @ moment).T).T
            deltas[name] = delta
        return deltas, factor.condition
