"""Exact training tuples from the guided trajectories of a frozen sampler, computed once and drawn many times."""

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
        t: their timesteps, ``(B,)``; z lies at exactly this noise level.
        prompt: which of the pool's prompts, ``(B,)``.
        cond: the original's conditioning of these prompts.
        run: which of the pool's runs, on the CPU, ``(B,)``; step: which step of it.
        conditional: the original's prediction at (z, t) for the prompt; unconditional: for the empty prompt. Both ``(B, C, H, W)``.
    """

    z: Tensor
    t: Tensor
    prompt: Tensor
    cond: Conditioning
    conditional: Tensor
    unconditional: Tensor
    run: Tensor
    step: Tensor


class TrajectoryPool:
    """Guided DDIM runs of the original, every step of each kept as (z_t, t, e_c, e_0).

    Classifier-free guidance computes both predictions at every state it passes, so a run of S steps gives S tuples for nothing more
    than the sampling, where sampling anew for every training step spends some S passes on one. The latent after k steps goes with
    the scheduler's k-th timestep, an exact match. Memory: three latents a tuple, that is ``12 C H W`` bytes in float32: 9.4 MiB for
    a run of 50 steps of Stable Diffusion 1, 0.6 MiB at 16 x 16; `nbytes` tells.

    Args:
        model: the original; what `Student` trains leaves it untouched, so that the pool stays exact.
        prompts: what is drawn; runs go round them in turn.
        runs: how many runs for each prompt.
        steps: DDIM steps of a run.
        guidance: classifier-free guidance scale of the runs; 3 in ESD (arXiv 2303.07345).
        seed: run i starts from the noise of ``derive_seed(seed, "trajectory", i)``.
        batch: runs computed at once; by default half of the images that the model draws at once.
        store: where the tuples lie; the model's device by default.

    Raises:
        EffaceError: no prompts, or no runs.
    """

    def __init__(
        self,
        model: EditableModel,
        prompts: Sequence[str],
        *,
        runs: int = 8,
        steps: int = 50,
        guidance: float = 3.0,
        seed: int = 0,
        batch: int | None = None,
        store: torch.device | str | None = None,
    ) -> None:
        batch = max(1, model.batch // 2) if batch is None else batch
        if not prompts or runs < 1 or steps < 1 or batch < 1:
            raise EffaceError(
                "a trajectory pool needs at least one prompt, one run, one step, and runs of one at a time"
            )
        self.model, self.prompts, self.steps, self.guidance, self.seed, self.batch = (
            model,
            tuple(prompts),
            steps,
            guidance,
            seed,
            batch,
        )
        self.store = torch.device(store) if store is not None else model.device
        with torch.no_grad():
            self.cond = model.encode(self.prompts)
        self._made = 0  # runs since the beginning; the newest overwrites the oldest
        self._runs: list[Tensor] = [torch.empty(0)] * (runs * len(self.prompts))  # each (3, S, C, H, W): z, e_c, e_0
        self.timesteps = torch.empty(0, dtype=torch.long)
        self.refresh(len(self._runs))

    def __len__(self) -> int:
        return len(self._runs) * self.steps

    @property
    def nbytes(self) -> int:
        """Bytes that the tuples take."""
        return sum(run.nbytes for run in self._runs)

    @torch.no_grad()
    def refresh(self, runs: int, params: Params | None = None) -> None:
        """Replaces the oldest runs by new ones.

        Args:
            runs: how many.
            params: denoiser tensors of a student that then does the sampling, as ESD's paper has it; the predictions kept are the
                original's all the same, at the cost of two more passes a step. The pool then ages between refreshes: an approximation.
        """
        for start in range(self._made, self._made + runs, self.batch):
            numbers = list(range(start, min(start + self.batch, self._made + runs)))
            for number, run in zip(numbers, self._draw_runs(numbers, params), strict=True):
                self._runs[number % len(self._runs)] = run
        self._made += runs

    def _draw_runs(self, numbers: Sequence[int], params: Params | None) -> Tensor:
        """Runs by number, ``(B, 3, S, C, H, W)``."""
        cond = self.cond[
            torch.tensor([number % len(self.prompts) for number in numbers], device=self.cond.states.device)
        ]
        seeds = [derive_seed(self.seed, "trajectory", number) for number in numbers]
        both = Conditioning.cat([cond, self.model.unconditional(len(numbers))]) if params else None
        states, timesteps = [], []
        for point in self.model.trajectory(cond, steps=self.steps, guidance=self.guidance, seeds=seeds, params=params):
            if point.t < 0:
                break
            c, u = point.conditional.value, point.unconditional.value
            if both is not None:
                c, u = self.model.predict(torch.cat([point.z, point.z]), point.t, both).value.chunk(2)
            states.append(torch.stack([point.z, c, u], dim=1).to(self.store))
            timesteps.append(point.t)
        self.timesteps = torch.tensor(timesteps)
        return torch.stack(states, dim=2)

    def sample(
        self,
        size: int,
        generator: torch.Generator,
        *,
        prompts: Sequence[int] | None = None,
        band: tuple[int, int] | None = None,
    ) -> TrajectoryBatch:
        """Tuples drawn evenly, with replacement.

        Args:
            size: how many.
            generator: on the CPU; the same state gives the same batch on every device.
            prompts: numbers of the prompts to draw from; all by default.
            band: timesteps from the first up to but without the second; all by default.

        Raises:
            EffaceError: no tuple is within the band, or no such prompt.
        """
        if size < 1:
            raise EffaceError(f"a batch of {size} tuples trains nothing: set batch to 1 or more")
        chosen = [i for i in range(len(self._runs)) if prompts is None or i % len(self.prompts) in prompts]
        low, high = band or (0, int(self.timesteps.max()) + 1)
        at = torch.nonzero((self.timesteps >= low) & (self.timesteps < high))[:, 0]
        if not chosen or not len(at):
            raise EffaceError(
                f"the trajectory pool has no tuple of prompts {prompts} with timesteps in [{low}, {high})"
            )
        runs = torch.tensor(chosen)[torch.randint(len(chosen), (size,), generator=generator)]
        return self._batch(runs, at[torch.randint(len(at), (size,), generator=generator)])

    def sample_each(self, prompts: Sequence[int], generator: torch.Generator) -> TrajectoryBatch:
        """One tuple for each of these prompts, by number, in their order: a run and a step of it drawn evenly."""
        each = len(self._runs) // len(self.prompts)
        runs = torch.tensor(prompts) + len(self.prompts) * torch.randint(each, (len(prompts),), generator=generator)
        return self._batch(runs, torch.randint(len(self.timesteps), (len(prompts),), generator=generator))

    def _batch(self, runs: Tensor, steps: Tensor) -> TrajectoryBatch:
        rows = torch.stack(
            [self._runs[run][:, step] for run, step in zip(runs.tolist(), steps.tolist(), strict=True)], dim=1
        )
        z, conditional, unconditional = rows.to(self.model.device)
        prompt = (runs % len(self.prompts)).to(self.model.device)
        return TrajectoryBatch(
            z,
            self.timesteps[steps].to(self.model.device),
            prompt,
            self.cond[prompt],
            conditional,
            unconditional,
            runs,
            steps,
        )

    def full_run(self, run: int) -> TrajectoryBatch:
        """All tuples of one run, in the order of their steps."""
        steps = torch.arange(len(self.timesteps))
        return self._batch(torch.full_like(steps, run), steps)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold to go on with the same pool; needed where `refresh` was given a student."""
        return {"runs": torch.stack(self._runs), "made": torch.tensor(self._made)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state` returned."""
        self._runs, self._made = list(state["runs"].to(self.store).unbind()), int(state["made"])
