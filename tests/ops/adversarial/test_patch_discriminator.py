"""The discriminator: its map of logits, its training and its checkpoint."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from efface.ops.adversarial.patch_discriminator import PatchDiscriminator


def discriminator(size: int, seed: int = 0) -> PatchDiscriminator:
    return PatchDiscriminator(4, size, 5e-4, torch.Generator().manual_seed(seed), torch.device("cpu"))


def latents(size: int, mean: float, seed: int = 0) -> Tensor:
    return mean + torch.randn(4, 4, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("size", "logits", "layers"), [(8, 3, 2), (16, 3, 3), (64, 3, 5), (128, 7, 5)])
def test_the_map_of_logits_follows_the_size_of_the_latents(size: int, logits: int, layers: int) -> None:
    module = discriminator(size).module
    assert module(latents(size, 0.0)[:1]).shape == (1, 1, logits, logits)
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in module) == layers


def test_training_tells_two_sources_apart() -> None:
    judge = discriminator(8)

    def loss() -> Tensor:
        return judge.loss(latents(8, 0.5), 0) + judge.loss(latents(8, -0.5), 1)

    before = loss().item()
    for _ in range(40):
        judge.update(loss())
    assert loss().item() < 0.2 * before


def test_a_restored_discriminator_continues_to_the_same_bits() -> None:
    first, second = discriminator(8), discriminator(8, seed=9)
    first.update(first.loss(latents(8, 1.0), 0))
    second.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    for judge in (first, second):
        judge.update(judge.loss(latents(8, 1.0, seed=1), 1))
    assert all(torch.equal(tensor, second.state()[name]) for name, tensor in first.state().items())


def test_its_weights_follow_the_generator_and_leave_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    one, two, other = discriminator(8), discriminator(8), discriminator(8, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.state()["weights.0.weight"], two.state()["weights.0.weight"])
    assert not torch.equal(one.state()["weights.0.weight"], other.state()["weights.0.weight"])
