"""A training run: named random generators, training loops with exact resume, and the run's log."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from efface.core.erasure import Edit, Erasure
from efface.core.errors import EffaceError
from efface.core.seeds import derive_seed
from efface.core.spec import RunSpec
from efface.core.tensors import Tensor as CoreTensor

from . import checkpoint
from .loop import Stateful, Step, TrainingLoop
from .progress import Progress, Silent

T = TypeVar("T")


@dataclass
class Run:
    """The fourth argument of a method, after model, concepts and configuration.

    Attributes:
        seed: root seed; all randomness comes from `generator` or `seed_for`.
        device: device to compute on.
        folder: checkpoint folder; None writes no checkpoints.
        progress: receives the progress of the loops.
        spec: description of the run, which the erasure carries.
        key: written into every checkpoint, by default the spec's hash; a resume refuses checkpoints of another key.
        resume: continue from the folder's checkpoints; otherwise they are removed.
        checkpoint_every: steps between checkpoints; the last step always writes one.
        history: every step's numbers by phase, as ``{"step": 0, "loss": 0.1, <part>: 0.05, "grad_norm": 1.2}``.
        notes: what a method reports besides numbers, as JSON values; the erasure's ``effect`` holds it.
        generators: generators handed out so far, by name.
        started: whether the first loop has begun and outdated checkpoints are removed.
    """

    seed: int = 0
    device: torch.device | str = "cpu"
    folder: Path | None = None
    progress: Progress = field(default_factory=Silent)
    spec: RunSpec | None = None
    key: str = ""
    resume: bool = False
    checkpoint_every: int = 50
    history: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    generators: dict[str, torch.Generator] = field(default_factory=dict, repr=False)
    started: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        if self.spec is not None and not self.key:
            self.key = self.spec.hash
        if self.folder is not None and self.resume:
            checkpoint.check_run_key(self.folder, self.key)

    def erasure(self, edits: Sequence[Edit], tensors: Mapping[str, CoreTensor] | None = None) -> Erasure:
        """Builds a method's return value from its edits, their tensors and the run's description.

        Raises:
            ValueError: the run has no spec.
        """
        if self.spec is None:
            raise ValueError("a run without a spec cannot build an erasure")
        return Erasure(self.spec, tuple(edits), tensors or {})

    def record(self, phase: str, numbers: Mapping[str, float]) -> None:
        """Logs the numbers of a phase without steps in `history`, such as the residual of a closed-form solution."""
        self.history.setdefault(phase, []).append({"step": len(self.history.get(phase, ())), **numbers})

    def track(self, phase: str, items: Collection[T]) -> Iterator[T]:
        """Yields the items and reports progress."""
        self.progress.start(phase, len(items), 0)
        try:
            for completed, item in enumerate(items, 1):
                yield item
                self.progress.update(completed, {})
        finally:
            self.progress.stop()

    def seed_for(self, *labels: str | int) -> int:
        """Derives a seed for one purpose from the root seed and the labels."""
        return derive_seed(self.seed, *labels)

    def generator(self, name: str) -> torch.Generator:
        """Returns the CPU generator of that name, always the same one; checkpoints hold its state."""
        if name not in self.generators:
            self.generators[name] = torch.Generator().manual_seed(self.seed_for("generator", name))
        return self.generators[name]

    def steps(
        self,
        total_steps: int,
        parameters: Mapping[str, Tensor],
        optimiser: torch.optim.Optimizer,
        *,
        max_grad_norm: float | None = None,
        phase: str = "train",
        extra_state: Mapping[str, Stateful] | None = None,
        checkpoint_every: int | None = None,
    ) -> Iterator[Step]:
        """Iterates over the steps of a loop; a resumed run yields the remaining ones, possibly none.

        Args:
            total_steps: number of steps.
            parameters: trained leaf tensors by name.
            optimiser: optimiser over these tensors.
            max_grad_norm: largest l2 norm of the gradient over all parameters; None disables clipping.
            phase: name of this loop, unique within the run.
            extra_state: further objects whose state the checkpoints hold, by name.
            checkpoint_every: steps between checkpoints, by default the run's; 1 for steps that take minutes.

        Raises:
            EffaceError: no steps, a non-finite loss, gradient or parameter, or a checkpoint of other tensors or steps.
        """
        if phase in self.history:
            raise ValueError(f"phase {phase!r} ran already: give every loop a name of its own")
        if total_steps < 1:
            raise EffaceError(f"{phase} has {total_steps} steps, which would change nothing: set steps to 1 or more")
        every = checkpoint_every or self.checkpoint_every
        extra = dict(extra_state or {})
        return self._iterate(
            TrainingLoop(self, total_steps, dict(parameters), optimiser, max_grad_norm, phase, extra, every)
        )

    def _iterate(self, loop: TrainingLoop) -> Iterator[Step]:
        completed = loop.restore()
        self.progress.start(loop.phase, loop.total_steps, completed)
        try:
            for index in range(completed, loop.total_steps):
                step = Step(index, loop.total_steps, loop)
                yield step
                loop.finish(step.index, step.losses)
        finally:
            self.progress.stop()
