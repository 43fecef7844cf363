"""Which directions an edit may use: SPEED's null space of what must stay, its filter, its augmentation and its invariants."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from efface.core.errors import EffaceError

from .low_rank import LowRank


def null_space(gram: Tensor, threshold: float) -> Tensor:
    """Orthonormal basis ``(d, q)`` of the directions in which a Gram ``(d, d)`` has an eigenvalue below the threshold.

    Raises:
        EffaceError: there is none.
    """
    values, vectors = torch.linalg.eigh(gram.double())
    basis: Tensor = vectors[:, values < threshold]
    if not basis.shape[1]:
        least = float(values[0])
        raise EffaceError(
            f"what must stay fills all {len(gram)} directions (least eigenvalue {least:.2g}): raise the threshold or retain less"
        )
    return basis


@dataclass(frozen=True)
class PriorRefinement:
    """How a layer's own retain set is made of one for all layers (SPEED, arXiv 2503.07392).

    A layer W keeps what a provisional E would move: the states r whose ``|W E r|`` is above the mean (its influence-based prior filter).
    Around each, it keeps more of them, ``r + s v`` with s ~ N(0, 1) along the direction v that the layer hears least, again those above
    the mean, among 128 at once (its directed prior augmentation).

    Attributes:
        filtered: whether the states themselves are filtered.
        times: how many are drawn around each; 0 for none.
        kernel: whether v may be a direction that W does not hear at all; the released code takes the least one that it hears.
        chunk: how many share a mean.
    """

    filtered: bool = True
    times: int = 10
    kernel: bool = True
    chunk: int = 128

    def gram(self, weight: Tensor, edit: LowRank, states: Tensor, generator: torch.Generator) -> Tensor:
        """The mean of the products ``r r^T`` of what a layer ``(o, d)`` keeps of states ``(d, n)``: ``(d, d)``.

        What is drawn is never written out: the lengths and the sums are functions of s.
        """
        moved = (weight @ edit.left) @ (edit.right @ states)
        influence = moved.norm(dim=0)
        kept = (
            influence > influence.mean()
            if self.filtered and float(influence.max()) > float(influence.min())
            else torch.ones_like(influence, dtype=torch.bool)
        )
        states, moved = states[:, kept], moved[:, kept]
        if not self.times:
            return states @ states.T / states.shape[1]
        v = least_sensitive_direction(weight, self.kernel)
        along = (weight @ edit.left) @ (edit.right @ v)
        s = torch.randn(states.shape[1], self.times, generator=generator, dtype=torch.float64)
        lengths = (
            moved.square().sum(0)[:, None] + 2 * s * (moved.T @ along)[:, None] + s.square() * along.square().sum()
        )
        lengths = lengths.clamp(min=0).sqrt()
        means = torch.cat([part.mean().expand(len(part)) for part in lengths.split(self.chunk)])
        taken = (lengths > means[:, None]).double()
        count, first, second = 1 + taken.sum(1), (s * taken).sum(1), (s.square() * taken).sum()
        cross = torch.outer(states @ first, v)
        return ((states * count) @ states.T + cross + cross.T + second * torch.outer(v, v)) / count.sum()


def least_sensitive_direction(weight: Tensor, kernel: bool = True, rounds: int = 30) -> Tensor:
    """A unit vector ``(d,)`` for which ``|W v|`` is least; without ``kernel`` least of those that W ``(o, d)`` hears at all."""
    o, d = weight.shape
    start = torch.randn(max(o, d), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if o >= d:
        v = _inverse_iteration(weight.T @ weight, start[:d], rounds)
    elif kernel:
        lower = torch.linalg.cholesky(_slightly_raised(weight @ weight.T))
        v = start[:d]
        for _ in range(2):  # once more for what rounding left
            v = v - weight.T @ torch.cholesky_solve((weight @ v)[:, None], lower)[:, 0]
            v = v / v.norm()
    else:
        v = weight.T @ _inverse_iteration(weight @ weight.T, start[:o], rounds)
    return v / v.norm()


def _inverse_iteration(matrix: Tensor, vector: Tensor, rounds: int) -> Tensor:
    lower = torch.linalg.cholesky(_slightly_raised(matrix))
    for _ in range(rounds):
        vector = torch.cholesky_solve(vector[:, None], lower)[:, 0]
        vector = vector / vector.norm()
    return vector


def _slightly_raised(matrix: Tensor) -> Tensor:
    """With a ridge below what float64 resolves, so that a factor exists where the matrix is singular."""
    return matrix + 1e-12 * float(matrix.trace()) / len(matrix) * torch.eye(len(matrix), dtype=matrix.dtype)


def k_means(states: Tensor, clusters: int, generator: torch.Generator, rounds: int = 50) -> Tensor:
    """Centroids ``(d, k)`` of columns ``(d, n)`` by Lloyd's algorithm, from seeds drawn by distance; fewer where columns are equal."""
    rows = states.T
    chosen = rows[torch.randint(len(rows), (1,), generator=generator)]
    while len(chosen) < clusters:
        apart = torch.cdist(rows, chosen).min(1).values.square()
        if float(apart.max()) <= 1e-12 * float(rows.square().sum(1).max()):
            break
        chosen = torch.cat([chosen, rows[torch.multinomial(apart, 1, generator=generator)]])
    for _ in range(rounds):
        near = torch.cdist(rows, chosen).argmin(1)
        new = torch.stack(
            [rows[near == i].mean(0) if bool((near == i).any()) else chosen[i] for i in range(len(chosen))]
        )
        if torch.equal(new, chosen):
            break
        chosen = new
    return chosen.T
