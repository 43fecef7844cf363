"""Timesteps of the first sampling steps, at which the content of an image is decided, and of the others."""

from __future__ import annotations

from efface.core.errors import EffaceError, UnknownNameError

from .trajectory_pool import TrajectoryPool

ENDS = ("first", "last")


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


def split_timestep_ranges(
    pool: TrajectoryPool, fraction: float, end: str = "first"
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns the timesteps of a share of the steps, and those of all others; each part has at least one step.

    Args:
        pool: the trajectories.
        fraction: share of the steps, above 0 and below 1.
        end: whether these are the ``first`` steps, from noise, or the ``last``.

    Raises:
        UnknownNameError: another end.
        EffaceError: a fraction that leaves one part without steps.
    """
    check_split(pool.num_inference_steps, fraction, end)
    first = early_timestep_range(pool, fraction if end == "first" else 1 - fraction)
    others = (0, first[0])
    return (first, others) if end == "first" else (others, first)


def check_split(num_inference_steps: int, fraction: float, end: str = "first") -> None:
    """Raises for what `split_timestep_ranges` refuses, before any trajectory is sampled."""
    if end not in ENDS:
        raise UnknownNameError("end of the steps", end, ENDS)
    first = round((fraction if end == "first" else 1 - fraction) * num_inference_steps)
    if not 0 < fraction < 1 or max(first, 1) >= num_inference_steps:
        raise EffaceError(
            f"the {end} {fraction:g} of {num_inference_steps} sampling steps leaves one part without steps: set a "
            "share between 0 and 1, and at least 2 sampling steps"
        )
