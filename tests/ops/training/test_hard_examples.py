"""Sampling of hard examples."""

from __future__ import annotations

import torch

from efface.ops.training.hard_examples import HardExampleSampler


def test_half_of_a_batch_are_hard_examples() -> None:
    sampler = HardExampleSampler(100)
    sampler.update(torch.arange(100.0))
    rows = sampler.sample(10, torch.Generator().manual_seed(0))
    assert len(rows) == 10
    assert sum(int(row) >= 90 for row in rows) >= 5
    assert len(set(rows[5:].tolist())) == 5
    assert sampler.hardest(3) == [99, 98, 97]


def test_measurements_are_averaged_and_the_first_one_counts_in_full() -> None:
    sampler = HardExampleSampler(2, decay=0.5)
    sampler.update(torch.tensor([4.0]), torch.tensor([1]))
    assert sampler.losses.tolist() == [0, 4]
    sampler.update(torch.tensor([2.0, 2.0]))
    assert sampler.losses.tolist() == [2, 3]


def test_more_places_than_examples_are_filled() -> None:
    assert len(HardExampleSampler(2).sample(8, torch.Generator().manual_seed(0))) == 8


def test_state_is_restored() -> None:
    sampler, restored = HardExampleSampler(3, 0.5), HardExampleSampler(3, 0.5)
    sampler.update(torch.tensor([1.0, 2.0, 3.0]))
    restored.load_state(sampler.state())
    for both in (sampler, restored):
        both.update(torch.zeros(3))
    assert torch.equal(sampler.losses, restored.losses)
