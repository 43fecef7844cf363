"""Directions that an edit may use: SPEED's null space, prior filter, prior augmentation and invariants."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from efface.core.errors import EffaceError

from .low_rank import LowRankUpdate


def null_space(gram: Tensor, threshold: float) -> Tensor:
    """Returns an orthonormal basis ``(d, q)`` of a Gram matrix's eigenvectors with eigenvalues below the threshold.

    Raises:
        EffaceError: there is no such eigenvalue.
    """
    values, vectors = torch.linalg.eigh(gram.double())
    basis: Tensor = vectors[:, values < threshold]
    if not basis.shape[1]:
        raise EffaceError(
            f"the retained states fill all {len(gram)} directions (least eigenvalue {float(values[0]):.2g}): "
            "raise the threshold or retain less"
        )
    return basis


@dataclass(frozen=True)
class PriorRefinement:
    """A layer's own retain set, derived from the common one (SPEED, arXiv 2503.07392).

    The influence-based prior filter keeps the states r of a layer W that a provisional E would move: those with
    ``|W E r|`` above the mean. The directed prior augmentation adds ``r + s v`` around each, with s ~ N(0, 1) and v the
    direction to which the layer is least sensitive, again those above the mean of 128.

    Attributes:
        filter_states: whether to filter the states themselves.
        num_augmented: number of samples around each state; 0 disables the augmentation.
        allow_null_directions: whether v may be in the layer's null space; the released code takes the least sensitive
            direction outside of it.
        chunk_size: number of states that share a mean.
    """

    filter_states: bool = True
    num_augmented: int = 10
    allow_null_directions: bool = True
    chunk_size: int = 128

    def gram(self, weight: Tensor, edit: LowRankUpdate, states: Tensor, generator: torch.Generator) -> Tensor:
        """Returns the mean of ``r r^T`` over a layer's retain set, ``(d, d)``.

        The augmented states are never materialised: their norms and sums are functions of s.

        Args:
            weight: W, ``(o, d)``.
            edit: the provisional E.
            states: the common retain set, ``(d, n)``.
            generator: draws s.
        """
        moved = (weight @ edit.left) @ (edit.right @ states)
        if self.filter_states:
            states, moved = _above_mean(states, moved)
        if not self.num_augmented:
            return states @ states.T / states.shape[1]
        v = least_sensitive_direction(weight, self.allow_null_directions)
        moved_v = (weight @ edit.left) @ (edit.right @ v)
        s = torch.randn(states.shape[1], self.num_augmented, generator=generator, dtype=torch.float64)
        squares = (
            moved.square().sum(0)[:, None] + 2 * s * (moved.T @ moved_v)[:, None] + s.square() * moved_v.square().sum()
        )
        norms = squares.clamp(min=0).sqrt()
        means = torch.cat([chunk.mean().expand(len(chunk)) for chunk in norms.split(self.chunk_size)])
        selected = (norms > means[:, None]).double()
        count = 1 + selected.sum(1)
        cross = torch.outer(states @ (s * selected).sum(1), v)
        second = (s.square() * selected).sum()
        return ((states * count) @ states.T + cross + cross.T + second * torch.outer(v, v)) / count.sum()


def _above_mean(states: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
    """Keeps the columns whose influence ``|W E r|`` is above the mean; all of them if every influence is equal."""
    influence = moved.norm(dim=0)
    above = influence > influence.mean()
    if not float(influence.max()) > float(influence.min()):
        above = torch.ones_like(above)
    return states[:, above], moved[:, above]


def least_sensitive_direction(weight: Tensor, allow_null: bool = True) -> Tensor:
    """Returns the unit vector v ``(d,)`` with the least ``|W v|``: W's last right singular vector.

    Its sign is that of its product with a fixed random vector, so that it is the same on every machine.

    Args:
        weight: W, ``(o, d)``.
        allow_null: whether v may be in W's null space; otherwise it is in W's row space.
    """
    o, d = weight.shape
    start = torch.randn(max(o, d), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if o < d and allow_null:
        lower = torch.linalg.cholesky(_with_tiny_ridge(weight @ weight.T))
        v = start[:d]
        for _ in range(2):  # the second projection removes the rounding error of the first
            v = v - weight.T @ torch.cholesky_solve((weight @ v)[:, None], lower)[:, 0]
            v = v / v.norm()
        return v
    left, _, right = torch.linalg.svd(weight, full_matrices=False)
    sign = right[-1] @ start[:d] if o >= d else left[:, -1] @ start[:o]
    return right[-1] if sign >= 0 else -right[-1]


def _with_tiny_ridge(matrix: Tensor) -> Tensor:
    """Adds a ridge below float64's resolution, so that a singular matrix has a Cholesky factor."""
    return matrix + 1e-12 * float(matrix.trace()) / len(matrix) * torch.eye(len(matrix), dtype=matrix.dtype)


# scikit-learn's KMeans draws its seeds from NumPy: other centroids, and another edit from the same seed of a run
def k_means(states: Tensor, num_clusters: int, generator: torch.Generator, max_iterations: int = 50) -> Tensor:
    """Returns centroids ``(d, k)`` of columns ``(d, n)`` by Lloyd's algorithm with k-means++ seeds.

    There are fewer centroids if there are fewer distinct columns.
    """
    rows = states.T
    centroids = rows[torch.randint(len(rows), (1,), generator=generator)]
    while len(centroids) < num_clusters:
        distances = torch.cdist(rows, centroids).min(1).values.square()
        if float(distances.max()) <= 1e-12 * float(rows.square().sum(1).max()):
            break
        centroids = torch.cat([centroids, rows[torch.multinomial(distances, 1, generator=generator)]])
    for _ in range(max_iterations):
        nearest = torch.cdist(rows, centroids).argmin(1)
        members = [rows[nearest == i] for i in range(len(centroids))]
        means = torch.stack([m.mean(0) if len(m) else c for m, c in zip(members, centroids, strict=True)])
        if torch.equal(means, centroids):
            break
        centroids = means
    return centroids.T
