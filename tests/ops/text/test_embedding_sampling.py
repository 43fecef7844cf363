"""Sampled states have the requested cosines, distances and directions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cosine_similarity

from efface.core.errors import EffaceError
from efface.ops.text.embedding_sampling import local_basis, sample_around


def columns(d: int, n: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(d, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 20), st.integers(1, 5), st.floats(-1, 1), st.floats(0, 1), st.floats(0.2, 2), st.integers(0, 1000)
)
def test_cosines_and_distances_are_within_their_bounds(
    d: int, m: int, low: float, fraction: float, distance: float, seed: int
) -> None:
    e, high = columns(d, m, seed), low + fraction * (1 - low)
    bound = 1 - distance**2 / 2
    if bound > high:
        with pytest.raises(EffaceError, match="no cosine between"):
            sample_around(e, 8, (low, high), generator(seed), max_distance=distance)
        return
    samples = sample_around(e, 8, (low, high), generator(seed), max_distance=distance)
    each = e.repeat_interleave(8, 1)
    cosines = cosine_similarity(samples, each, dim=0)
    assert samples.shape == (d, 8 * m)
    assert float(cosines.min()) >= max(low, bound) - 1e-9
    assert float(cosines.max()) <= high + 1e-9
    torch.testing.assert_close(samples.norm(dim=0), each.norm(dim=0), rtol=1e-9, atol=0)
    assert float(((samples - each).norm(dim=0) / each.norm(dim=0)).max()) <= distance + 1e-7


def test_one_cosine_is_exact_and_a_range_is_uniform() -> None:
    e = columns(16, 1)
    exact = cosine_similarity(sample_around(e, 100, (0.7, 0.7), generator()), e.expand(-1, 100), dim=0)
    torch.testing.assert_close(exact, torch.full((100,), 0.7, dtype=torch.float64), rtol=1e-12, atol=0)
    many = cosine_similarity(sample_around(e, 20_000, (0.2, 0.8), generator()), e.expand(-1, 20_000), dim=0)
    fractions = torch.histc(many, 6, 0.2, 0.8) / 20_000
    assert float((fractions - 1 / 6).abs().max()) < 0.012
    assert torch.equal(sample_around(e, 3, (0.2, 0.8), generator(1)), sample_around(e, 3, (0.2, 0.8), generator(1)))
    assert sample_around(e, 0, (0.2, 0.8), generator()).shape == (16, 0)


def test_orthogonal_directions_are_uniform() -> None:
    e = torch.zeros(6, 1, dtype=torch.float64)
    e[0] = 2
    across = sample_around(e, 20_000, (0.0, 0.0), generator())[1:]
    torch.testing.assert_close(
        across @ across.T / 20_000, torch.eye(5, dtype=torch.float64) * 4 / 5, rtol=0.05, atol=0.03
    )


def test_samples_differ_from_their_center_within_the_basis() -> None:
    e, states = columns(12, 2, 1), columns(12, 30, 2)
    basis = local_basis(states, e, 4)
    assert basis.shape == (12, 4)
    torch.testing.assert_close(basis.T @ basis, torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-12)
    samples = sample_around(e, 50, (0.5, 0.9), generator(), basis=basis)
    for i in range(2):
        allowed = torch.linalg.qr(torch.cat([e[:, [i]], basis], 1)).Q
        own = samples[:, 50 * i : 50 * (i + 1)]
        assert float((own - allowed @ (allowed.T @ own)).norm()) < 1e-10
    cosines = cosine_similarity(samples, e.repeat_interleave(50, 1), dim=0)
    assert float(cosines.min()) >= 0.5 - 1e-9
    assert float(cosines.max()) <= 0.9 + 1e-9


def test_the_basis_spans_the_directions_to_the_nearest_states() -> None:
    e = torch.eye(5, dtype=torch.float64)[:, :1]
    states = torch.tensor(
        [[1.0, 1.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.6, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]], dtype=torch.float64
    )
    basis = local_basis(states, e, 2)
    torch.testing.assert_close(
        (basis @ basis.T).diag(), torch.tensor([0.0, 1, 1, 0, 0], dtype=torch.float64), atol=1e-12, rtol=0
    )
    with pytest.raises(EffaceError, match="no direction orthogonal"):
        sample_around(e, 2, (0.5, 0.9), generator(), basis=e)
