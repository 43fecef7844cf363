"""Exact training tuples from guided trajectories of a frozen model, computed once and sampled many times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from efface.core.errors import EffaceError
from efface.core.seeds import derive_seed
from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning, Params


@dataclass(frozen=True)
class TrajectoryBatch:
    """Training tuples; predictions are in the model's native parameterisation (epsilon for Stable Diffusion 1).

    Attributes:
        z: noisy latents, ``(B, C, H, W)``.
        t: timesteps, ``(B,)``, the exact noise levels of z.
        prompt_index: index of each tuple's prompt in the pool, ``(B,)``.
        cond: the original's conditioning of these prompts.
        conditional: the original's predictions at (z, t) for the prompts, ``(B, C, H, W)``.
        unconditional: the original's predictions at (z, t) for the empty prompt, ``(B, C, H, W)``.
        trajectory_index: index of each tuple's trajectory in the pool, on the CPU, ``(B,)``.
        step_index: index of each tuple's step in its trajectory, on the CPU, ``(B,)``.
    """

    z: Tensor
    t: Tensor
    prompt_index: Tensor
    cond: Conditioning
    conditional: Tensor
    unconditional: Tensor
    trajectory_index: Tensor
    step_index: Tensor


class TrajectoryPool:
    """Guided DDIM trajectories of the original; every step is kept as (z_t, t, e_c, e_0).

    Classifier-free guidance computes both predictions at every step, so that a trajectory of S steps gives S tuples at
    the cost of sampling one image; sampling again for every training step would spend about S passes on one tuple. The
    latent after k steps has exactly the noise level of the scheduler's k-th timestep. Memory: three latents a tuple,
    ``12 C H W`` bytes in float32: 9.4 MiB for 50 steps of Stable Diffusion 1, 0.6 MiB at 16 x 16 (see `nbytes`).

    Args:
        model: the original model; a `Student` never writes to it, so that the pool stays exact.
        prompts: prompts of the trajectories; trajectory i belongs to prompt ``i % len(prompts)``.
        trajectories_per_prompt: number of trajectories for each prompt.
        num_inference_steps: DDIM steps of a trajectory.
        guidance_scale: classifier-free guidance scale; 3 in ESD (arXiv 2303.07345).
        seed: trajectory i starts from the noise of ``derive_seed(seed, "trajectory", i)``.
        batch_size: trajectories computed at the same time; half of the model's default batch size by default.
        storage_device: device of the stored tuples; the model's device by default.

    Raises:
        EffaceError: no prompts, or a number below 1.
    """

    def __init__(
        self,
        model: EditableModel,
        prompts: Sequence[str],
        *,
        trajectories_per_prompt: int = 8,
        num_inference_steps: int = 50,
        guidance_scale: float = 3.0,
        seed: int = 0,
        batch_size: int | None = None,
        storage_device: torch.device | str | None = None,
    ) -> None:
        self.model = model
        self.prompts = tuple(prompts)
        self.num_inference_steps = num_inference_steps
        self.guidance_scale = guidance_scale
        self.seed = seed
        self.batch_size = max(1, model.default_batch_size // 2) if batch_size is None else batch_size
        self.storage_device = torch.device(storage_device) if storage_device is not None else model.device
        if not prompts or min(trajectories_per_prompt, num_inference_steps, self.batch_size) < 1:
            raise EffaceError(
                "a trajectory pool needs at least one prompt, one trajectory a prompt, one step and a batch size of 1"
            )
        read = model.prediction_guidance_scale
        if read is not None and read != guidance_scale:
            reads = f"reads the guidance scale, {read:g} in training" if read else "is a model without guidance"
            raise EffaceError(f"{model.name} {reads}: set guidance_scale={read:g}, not {guidance_scale:g}")
        with torch.no_grad():
            self.cond = model.encode(self.prompts)
        self._num_generated = 0  # trajectories generated so far; a new one replaces the oldest
        # each trajectory is (3, S, C, H, W): z, e_c, e_0
        self._trajectories: list[Tensor] = [torch.empty(0)] * (trajectories_per_prompt * len(self.prompts))
        self.timesteps = torch.empty(0)
        self.refresh(len(self._trajectories))

    def __len__(self) -> int:
        return len(self._trajectories) * self.num_inference_steps

    @property
    def nbytes(self) -> int:
        """Bytes of the stored tuples."""
        return sum(trajectory.nbytes for trajectory in self._trajectories)

    @torch.no_grad()
    def refresh(self, count: int, params: Params | None = None) -> None:
        """Replaces the oldest trajectories.

        Args:
            count: number of new trajectories.
            params: denoiser tensors of a student that samples the new trajectories, as in ESD's paper. The stored
                predictions are still the original's, at the cost of two more passes a step. The student changes
                between refreshes, so that the pool is then an approximation.
        """
        end = self._num_generated + count
        for start in range(self._num_generated, end, self.batch_size):
            numbers = list(range(start, min(start + self.batch_size, end)))
            for number, trajectory in zip(numbers, self._generate(numbers, params), strict=True):
                self._trajectories[number % len(self._trajectories)] = trajectory
        self._num_generated = end

    def _generate(self, numbers: Sequence[int], params: Params | None) -> Tensor:
        """Generates trajectories by number, ``(B, 3, S, C, H, W)``."""
        prompt_indices = [number % len(self.prompts) for number in numbers]
        cond = self.cond[torch.tensor(prompt_indices, device=self.cond.states.device)]
        seeds = [derive_seed(self.seed, "trajectory", number) for number in numbers]
        both = Conditioning.cat([cond, self.model.unconditional(len(numbers))]) if params else None
        steps, timesteps = [], []
        points = self.model.trajectory(
            cond, num_inference_steps=self.num_inference_steps, guidance_scale=self.guidance_scale, seeds=seeds,
            params=params,
        )  # fmt: skip
        for point in points:
            if point.t < 0:
                break
            e_c, e_0 = point.conditional.value, point.unconditional.value
            if both is not None:
                e_c, e_0 = self.model.predict(torch.cat([point.z, point.z]), point.t, both).value.chunk(2)
            steps.append(torch.stack([point.z, e_c, e_0], dim=1).to(self.storage_device))
            timesteps.append(point.t)
        self.timesteps = torch.tensor(timesteps)
        return torch.stack(steps, dim=2)

    def sample(
        self, batch_size: int, generator: torch.Generator, *, timestep_range: tuple[int, int] | None = None
    ) -> TrajectoryBatch:
        """Samples tuples uniformly with replacement.

        Args:
            batch_size: number of tuples.
            generator: on the CPU; the same state gives the same batch on every device.
            timestep_range: smallest timestep and exclusive upper bound; all timesteps by default.

        Raises:
            EffaceError: a batch size below 1, or no tuple of these timesteps.
        """
        if batch_size < 1:
            raise EffaceError(f"a batch of {batch_size} tuples trains nothing: set the batch size to 1 or more")
        low, high = timestep_range or (0, int(self.timesteps.max()) + 1)
        steps = torch.nonzero((self.timesteps >= low) & (self.timesteps < high))[:, 0]
        if not len(steps):
            raise EffaceError(f"no tuple has a timestep in [{low}, {high}): choose a range that the sampler visits")
        trajectories = torch.randint(len(self._trajectories), (batch_size,), generator=generator)
        return self._batch(trajectories, steps[torch.randint(len(steps), (batch_size,), generator=generator)])

    def sample_each(self, prompt_indices: Sequence[int], generator: torch.Generator) -> TrajectoryBatch:
        """Samples one tuple for each of these prompts, in their order, uniformly over trajectories and steps."""
        count, per_prompt = len(prompt_indices), len(self._trajectories) // len(self.prompts)
        offsets = torch.randint(per_prompt, (count,), generator=generator)
        trajectories = torch.tensor(prompt_indices) + len(self.prompts) * offsets
        return self._batch(trajectories, torch.randint(len(self.timesteps), (count,), generator=generator))

    def full_trajectory(self, trajectory_index: int) -> TrajectoryBatch:
        """Returns all tuples of one trajectory in the order of its steps."""
        steps = torch.arange(len(self.timesteps))
        return self._batch(torch.full_like(steps, trajectory_index), steps)

    def _batch(self, trajectories: Tensor, steps: Tensor) -> TrajectoryBatch:
        device = self.model.device
        pairs = zip(trajectories.tolist(), steps.tolist(), strict=True)
        stacked = torch.stack([self._trajectories[trajectory][:, step] for trajectory, step in pairs], dim=1)
        z, conditional, unconditional = stacked.to(device)
        prompt_index = (trajectories % len(self.prompts)).to(device)
        t, cond = self.timesteps[steps].to(device), self.cond[prompt_index]
        return TrajectoryBatch(z, t, prompt_index, cond, conditional, unconditional, trajectories, steps)

    def state(self) -> dict[str, Tensor]:
        """Returns the trajectories and their count for a checkpoint, needed if a student refreshes the pool."""
        return {"trajectories": torch.stack(self._trajectories), "num_generated": torch.tensor(self._num_generated)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned."""
        self._trajectories = list(state["trajectories"].to(self.storage_device).unbind())
        self._num_generated = int(state["num_generated"])
