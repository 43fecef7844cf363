"""Timesteps of the first sampling steps."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_model

from efface.core.errors import EffaceError, UnknownNameError
from efface.ops.training.timestep_range import early_timestep_range, split_timestep_ranges
from efface.ops.training.trajectory_pool import TrajectoryPool


def test_the_range_contains_the_first_steps_alone() -> None:
    pool = TrajectoryPool(tiny_model(), ["a gun"], trajectories_per_prompt=1, num_inference_steps=10, seed=0)
    early = early_timestep_range(pool, 0.52)
    batch = pool.sample(200, torch.Generator().manual_seed(0), timestep_range=early)
    assert sorted(set(batch.t.tolist()), reverse=True) == pool.timesteps[:5].tolist()
    first, last = int(pool.timesteps[0]), int(pool.timesteps[-1])
    assert early_timestep_range(pool, 0.01) == (first, first + 1), "at least one step"
    assert early_timestep_range(pool, 1.0) == (last, first + 1)


def test_the_steps_split_into_a_share_and_the_others() -> None:
    pool = TrajectoryPool(tiny_model(), ["a gun"], trajectories_per_prompt=1, num_inference_steps=10, seed=0)
    steps = pool.timesteps.tolist()
    for end, expected in (("first", steps[:2]), ("last", steps[8:])):
        parts = split_timestep_ranges(pool, 0.2, end)
        inside = [[t for t in steps if low <= t < high] for low, high in parts]
        assert inside == [expected, [t for t in steps if t not in expected]]
    for fraction in (0.0, 0.99, 1.0, -0.5):
        with pytest.raises(EffaceError, match="set a share between 0 and 1"):
            split_timestep_ranges(pool, fraction)
    with pytest.raises(UnknownNameError, match="unknown end of the steps 'late'"):
        split_timestep_ranges(pool, 0.2, "late")
