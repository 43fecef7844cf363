"""The classifier of noised latents: it learns what training shows, and its gradient leads there."""

from __future__ import annotations

import torch
from helpers.tiny import tiny_model
from torch import Tensor

from efface.ops.adversarial.attack_context import AttackContext
from efface.ops.adversarial.latent_classifier import train_classifier


def latents(count: int, sign: float, seed: int) -> Tensor:
    """Returns latents whose first channel has a sign; the rest is noise."""
    values = torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
    values[:, 0] = sign + 0.3 * values[:, 0]
    return values


def test_it_tells_new_latents_apart_and_pulls_towards_the_concept() -> None:
    model = tiny_model()
    classifier = train_classifier(model, latents(32, 1.0, 0), latents(32, -1.0, 1), 60, 16, 3e-3, AttackContext(seed=0))
    ones, zeros = torch.ones(32), torch.zeros(32)
    shown, absent = (classifier(latents(32, sign, 2), ones, zeros) for sign in (1.0, -1.0))
    assert (shown > 0).double().mean() > 0.9
    assert (absent < 0).double().mean() > 0.9
    z = latents(32, -1.0, 3)
    moved = z + classifier.gradient(z, 1.0, 0.0) * 100
    assert bool((classifier(moved, ones, zeros) > classifier(z, ones, zeros)).all())


def test_the_same_seed_trains_the_same_classifier() -> None:
    model, data = tiny_model(), (latents(4, 1.0, 0), latents(4, -1.0, 1))
    first, second = (train_classifier(model, *data, 2, 4, 1e-3, AttackContext(seed=5)) for _ in range(2))
    state = torch.random.get_rng_state()
    third = train_classifier(model, *data, 2, 4, 1e-3, AttackContext(seed=6))
    assert torch.equal(torch.random.get_rng_state(), state), "training leaves the global generator as it was"
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(first.head[1].weight, third.head[1].weight)
