"""The linear classifier of the erasers: softmax regression with an l2 penalty, full batch, float64, deterministic."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


# scikit-learn's LogisticRegression has no GPU support and converges to other bits than torch's L-BFGS
@dataclass(frozen=True)
class Probe:
    """A linear classifier of C classes.

    Attributes:
        weight: ``(C, D)``, with rows that sum to 0.
        bias: ``(C,)``.
    """

    weight: Tensor
    bias: Tensor

    @classmethod
    def fit(cls, x: Tensor, y: Tensor, classes: int, ridge: float = 1e-4, iterations: int = 200) -> Probe:
        """Minimises the mean cross-entropy plus ridge/2 |W|^2 with L-BFGS from zero.

        The vectors are centred and divided by one number first, so that the ridge means the same at every scale.

        Args:
            x: vectors, ``(N, D)``.
            y: class indices, ``(N,)``.
            classes: C.
            ridge: weight of the penalty.
            iterations: largest number of L-BFGS iterations.
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
        unscaled = weight.detach() / scale
        return cls(unscaled - unscaled.mean(0), bias.detach() - unscaled @ mean)

    def logits(self, x: Tensor) -> Tensor:
        """Returns the logits ``(N, C)`` of x ``(N, D)``."""
        return x @ self.weight.T + self.bias

    def accuracy(self, x: Tensor, y: Tensor) -> float:
        """Returns the share of correctly classified vectors."""
        return float((self.logits(x).argmax(1) == y).double().mean())

    def loss(self, x: Tensor, y: Tensor) -> float:
        """Returns the mean cross-entropy."""
        return float(cross_entropy(self.logits(x), y))

    def directions(self, tolerance: float = 1e-8) -> Tensor:
        """Returns an orthonormal basis of the weight's row space, ``(r, D)``; r is at most C - 1."""
        _, values, rows = torch.linalg.svd(self.weight, full_matrices=False)
        return rows[values > tolerance * values[0]] if float(values[0]) > 0 else rows[:0]


def majority_share(y: Tensor) -> float:
    """Returns the share of the most frequent class."""
    return float(y.bincount().max()) / len(y)


def stratified_split(y: Tensor, test_share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Splits row indices into training and test rows.

    Args:
        y: class indices, ``(N,)``.
        test_share: share of every class with more than one row to test on.
        generator: draws the split, on the CPU.
    """
    train, test = [], []
    for label in range(int(y.max()) + 1):
        rows = (y == label).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=generator).to(rows.device)]
        num_test = min(max(1, round(test_share * len(rows))), len(rows) - 1) if test_share else 0
        test.append(rows[:num_test])
        train.append(rows[num_test:])
    return torch.cat(train), torch.cat(test)
