"""Timesteps of the first sampling steps."""

from __future__ import annotations

import torch
from helpers.tiny import tiny_model

from efface.ops.training.timestep_range import early_timestep_range
from efface.ops.training.trajectory_pool import TrajectoryPool


def test_the_range_contains_the_first_steps_alone() -> None:
    pool = TrajectoryPool(tiny_model(), ["a gun"], trajectories_per_prompt=1, num_inference_steps=10, seed=0)
    early = early_timestep_range(pool, 0.52)
    batch = pool.sample(200, torch.Generator().manual_seed(0), timestep_range=early)
    assert sorted(set(batch.t.tolist()), reverse=True) == pool.timesteps[:5].tolist()
    first, last = int(pool.timesteps[0]), int(pool.timesteps[-1])
    assert early_timestep_range(pool, 0.01) == (first, first + 1), "at least one step"
    assert early_timestep_range(pool, 1.0) == (last, first + 1)
