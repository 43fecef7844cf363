"""The classifier that erasers erase against: softmax regression with a ridge, full batch, in float64; no chance in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


@dataclass(frozen=True)
class Probe:
    """A linear classifier of C classes.

    Attributes:
        weight: ``(C, D)``, of rows that sum to 0; bias: ``(C,)``.
    """

    weight: Tensor
    bias: Tensor

    @classmethod
    def fit(cls, x: Tensor, y: Tensor, classes: int, ridge: float = 1e-4, iterations: int = 200) -> Probe:
        """Minimises the mean cross-entropy of classes y ``(N,)`` on x ``(N, D)`` plus ridge/2 |W|^2, with L-BFGS from zero.

        The vectors are centred and scaled by one number for that, so that the ridge means the same at every scale.
        """
        mean = x.mean(0)
        scale = float((x - mean).square().mean().sqrt()) or 1.0
        scaled = (x - mean) / scale
        weight = torch.zeros(classes, x.shape[1], dtype=x.dtype, device=x.device, requires_grad=True)
        bias = torch.zeros(classes, dtype=x.dtype, device=x.device, requires_grad=True)
        optimiser = torch.optim.LBFGS(
            [weight, bias], max_iter=iterations, line_search_fn="strong_wolfe", tolerance_grad=1e-7
        )

        def closure() -> Tensor:
            optimiser.zero_grad()
            loss = cross_entropy(scaled @ weight.T + bias, y) + ridge / 2 * weight.square().sum()
            loss.backward()
            return loss

        with torch.enable_grad():
            optimiser.step(closure)
        learned = weight.detach() / scale
        return cls(learned - learned.mean(0), bias.detach() - learned @ mean)

    def logits(self, x: Tensor) -> Tensor:
        """``(N, C)`` of x ``(N, D)``."""
        return x @ self.weight.T + self.bias

    def accuracy(self, x: Tensor, y: Tensor) -> float:
        """Share of x that it gets right."""
        return float((self.logits(x).argmax(1) == y).double().mean())

    def loss(self, x: Tensor, y: Tensor) -> float:
        """Mean cross-entropy."""
        return float(cross_entropy(self.logits(x), y))

    def directions(self, tol: float = 1e-8) -> Tensor:
        """An orthonormal basis of what it reads, ``(r, D)``: r = 1 for two classes, at most C - 1."""
        _, values, rows = torch.linalg.svd(self.weight, full_matrices=False)
        return rows[values > tol * values[0]] if float(values[0]) > 0 else rows[:0]


def majority(y: Tensor) -> float:
    """The accuracy of always saying the most frequent class."""
    return float(y.bincount().max()) / len(y)


def split(y: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Indices of the rows to learn from and of those held out, a share of every class with more than one row."""
    kept, held = [], []
    for label in range(int(y.max()) + 1):
        rows = (y == label).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=generator).to(rows.device)]
        count = min(max(1, round(share * len(rows))), len(rows) - 1) if share else 0
        held.append(rows[:count])
        kept.append(rows[count:])
    return torch.cat(kept), torch.cat(held)
