"""Neighbourhoods of text encoder states."""

from __future__ import annotations

import torch
from torch.nn.functional import cosine_similarity

from efface.models.protocol import Conditioning
from efface.ops.text.neighbourhood import Neighbourhood


def random_states(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_samples_are_within_the_cosines_and_the_distance() -> None:
    states = random_states(8, 3)
    samples = Neighbourhood(0.2, 0.99, max_distance=0.6).sample(states, 50, torch.Generator().manual_seed(1))
    centers = states.repeat_interleave(50, 1)
    assert samples.shape == (8, 150)
    assert float(cosine_similarity(samples, centers, dim=0).max()) <= 0.99 + 1e-9
    distances = (samples - centers).norm(dim=0) / centers.norm(dim=0)
    assert float(distances.max()) <= 0.6 + 1e-9
    torch.testing.assert_close(samples.norm(dim=0), centers.norm(dim=0))


def test_perturb_changes_masked_states_alone() -> None:
    cond = Conditioning(random_states(2, 6, 8), random_states(2, 8))
    mask = torch.zeros(2, 6, dtype=torch.bool)
    mask[0, 2:] = mask[1, 5] = True
    perturbed = Neighbourhood(0.6, 0.6).perturb(cond, mask, torch.Generator().manual_seed(0))
    assert torch.equal(perturbed.states[~mask], cond.states[~mask])
    assert torch.equal(perturbed.pooled, cond.pooled)
    cosines = cosine_similarity(perturbed.states[mask], cond.states[mask], dim=-1)
    torch.testing.assert_close(cosines, torch.full_like(cosines, 0.6), rtol=1e-9, atol=0)
