"""Timesteps of the first sampling steps, at which the content of an image is decided."""

from __future__ import annotations

from .trajectory_pool import TrajectoryPool


def early_timestep_range(pool: TrajectoryPool, fraction: float) -> tuple[int, int]:
    """Returns the timesteps of the first steps of a pool's trajectories, for `TrajectoryPool.sample`.

    Args:
        pool: the trajectories.
        fraction: share of the steps, in (0, 1]; at least one step.

    Returns:
        The smallest timestep and an exclusive upper bound.
    """
    num_steps = min(max(1, round(fraction * pool.num_inference_steps)), pool.num_inference_steps)
    return int(pool.timesteps[num_steps - 1]), int(pool.timesteps.max()) + 1
