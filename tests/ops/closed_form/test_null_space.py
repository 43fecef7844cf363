"""SPEED's retain set of a layer, against the same computed state by state."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from efface.core.errors import EffaceError
from efface.ops.closed_form import LowRankUpdate, PriorRefinement, k_means, null_space
from efface.ops.closed_form.null_space import least_sensitive_direction


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("filter_states", "num_augmented", "chunk_size"), [(True, 6, 128), (False, 3, 4), (True, 0, 128), (False, 0, 128)]
)
def test_a_layers_gram_is_that_of_its_states(filter_states: bool, num_augmented: int, chunk_size: int) -> None:
    w, edit, r = normal(5, 8), LowRankUpdate(normal(8, 3, seed=1), normal(3, 8, seed=2)), normal(8, 20, seed=3)
    refined = PriorRefinement(filter_states, num_augmented, chunk_size=chunk_size)
    gram = refined.gram(w, edit, r, torch.Generator().manual_seed(4))

    def influence(states: Tensor) -> Tensor:
        return (w @ edit.dense() @ states).norm(dim=0)

    if filter_states:
        r = r[:, influence(r) > influence(r).mean()]
    rows, v = [r], least_sensitive_direction(w)
    s = torch.randn(r.shape[1], num_augmented, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    for start in range(0, r.shape[1], chunk_size):
        if num_augmented:
            augmented = torch.cat(
                [r[:, [j]] + s[j] * v[:, None] for j in range(start, min(start + chunk_size, r.shape[1]))], dim=1
            )
            rows.append(augmented[:, influence(augmented) > influence(augmented).mean()])
    retained = torch.cat(rows, dim=1)
    torch.testing.assert_close(gram, retained @ retained.T / retained.shape[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rows", [5, 8, 30])
def test_the_least_sensitive_direction(rows: int) -> None:
    w = normal(rows, 8)
    v = least_sensitive_direction(w)
    least = torch.linalg.svdvals(w)[-1] if rows >= 8 else torch.tensor(0.0, dtype=torch.float64)
    assert float(v.norm()) == pytest.approx(1)
    assert float((w @ v).norm()) == pytest.approx(float(least), rel=1e-6, abs=1e-7)
    if rows < 8:
        outside_null_space = least_sensitive_direction(w, allow_null=False)
        assert float((w @ outside_null_space).norm()) == pytest.approx(float(torch.linalg.svdvals(w)[-1]), rel=1e-6)


@pytest.mark.parametrize("rows", [64, 96])
def test_the_least_sensitive_direction_among_near_ones(rows: int) -> None:
    """The two smallest singular values differ by 1 %."""
    left, right = (torch.linalg.qr(normal(n, 64, seed=n)).Q for n in (rows, 64))
    values = torch.linspace(1, 0.1, 64, dtype=torch.float64)
    values[-1] = 0.99 * values[-2]
    v = least_sensitive_direction((left * values) @ right.T)
    assert float((v @ right[:, -1]).abs()) == pytest.approx(1, abs=1e-12)


def test_the_null_space_is_orthogonal_to_the_states() -> None:
    r = normal(8, 3)
    basis = null_space(r @ r.T, 1e-9)
    assert basis.shape == (8, 5)
    assert float((basis.T @ r).abs().max()) < 1e-9
    with pytest.raises(EffaceError, match=r"fill all 8 directions .* raise the threshold or retain less"):
        null_space(torch.eye(8), 0.5)


def test_k_means_finds_three_clusters() -> None:
    clusters = torch.cat([normal(4, 10, seed=i) * 0.01 + 10 * normal(4, 1, seed=50 + i) for i in range(3)], dim=1)
    centroids = k_means(clusters, 3, torch.Generator().manual_seed(0))
    means = torch.stack([clusters[:, 10 * i : 10 * i + 10].mean(1) for i in range(3)])
    assert float(torch.cdist(centroids.T, means).min(0).values.max()) < 1e-9
    assert k_means(clusters[:, :1].expand(-1, 6), 3, torch.Generator().manual_seed(0)).shape == (4, 1), (
        "fewer centroids if all columns are equal"
    )
