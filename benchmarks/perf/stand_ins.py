"""Stand-ins for `full_size.py`: pools without trajectories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, ClassVar
from unittest.mock import patch

import torch
from clocks import Clock
from torch import Tensor

from efface.core.seeds import derive_seed
from efface.models.protocol import Params
from efface.ops.training.trajectory_pool import TrajectoryBatch, TrajectoryPool


class NoisePool(TrajectoryPool):
    """A pool of the true size with noise in place of trajectories; sampling from it costs the same."""

    def _generate(self, numbers: Sequence[int], params: Params | None) -> Tensor:
        model: Any = self.model
        model.scheduler.set_timesteps(self.num_inference_steps)
        self.timesteps = model.scheduler.timesteps.cpu()
        shape = model.initial_noise([0]).shape[1:]
        size = (len(numbers), 3, self.num_inference_steps, *shape)
        return torch.randn(size, device=self.storage_device, dtype=model.unet.dtype)


class NoPool(NoisePool):
    """Published form without a pool: each batch is generated from noise up to a uniformly sampled timestep.

    The batch shares the timestep, which is the cheapest reading of the published form, and the last sampling step
    also gives the original's predictions. ``limit`` stops after that number of guided steps (two passes each, run as
    one); 0 for all of them.
    """

    clock: ClassVar[Clock]
    limit: ClassVar[int] = 0
    num_batches: ClassVar[int] = 0

    def _generate(self, numbers: Sequence[int], params: Params | None) -> Tensor:
        return super()._generate(numbers[:1], params)[:, :, :, :1, :1, :1].expand(len(numbers), -1, -1, -1, -1, -1)

    def _batch(self, runs: Tensor, steps: Tensor) -> TrajectoryBatch:
        cls = type(self)
        device = self.model.device
        due = int(steps[0]) + 1
        prompt = (runs % len(self.prompts)).to(device)
        seeds = [derive_seed(self.seed, "resampled", cls.num_batches, row) for row in range(len(runs))]
        cls.num_batches += 1
        last = min(due, cls.limit or due)
        with cls.clock.measure("sampling", last):
            points = self.model.trajectory(
                self.cond[prompt],
                num_inference_steps=self.num_inference_steps,
                guidance_scale=self.guidance_scale,
                seeds=seeds,
            )
            point = list(islice(points, last))[-1]
        t = torch.full((len(runs),), point.t, device=device)
        return TrajectoryBatch(
            point.z, t, prompt, self.cond[prompt], point.conditional.value, point.unconditional.value, runs, steps
        )


@contextmanager
def states_from(kind: type[TrajectoryPool]) -> Iterator[None]:
    """Make the library's functions use another kind of pool."""
    with patch("efface.ops.training.trajectory_config.TrajectoryPool", kind):
        yield
