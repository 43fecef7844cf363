"""Parts of the outside-in search."""

from __future__ import annotations

import torch

from efface.attacks.outside_in import project_to_simplex, sample_indices


def test_projection_is_the_nearest_point_of_the_simplex() -> None:
    u = 2 * torch.randn(20, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    projected = project_to_simplex(u)
    assert bool((projected >= 0).all())
    torch.testing.assert_close(projected.sum(-1), torch.ones(20, dtype=torch.float64))
    torch.testing.assert_close(project_to_simplex(projected), projected)
    others = torch.distributions.Dirichlet(torch.ones(5, dtype=torch.float64)).sample((1000,))
    distance = (u - projected).norm(dim=-1)
    assert bool((distance[:, None] <= (u[:, None] - others).norm(dim=-1)).all())


def test_indices_are_sampled_with_their_probability() -> None:
    u = torch.tensor([0.5, 0.0, 0.2, 0.3]).expand(20_000, 4)
    counts = sample_indices(u, torch.Generator().manual_seed(0)).bincount(minlength=4) / 20_000
    torch.testing.assert_close(counts, u[0], atol=0.015, rtol=0)
    assert counts[1] == 0
