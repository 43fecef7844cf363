"""A training run: steps with progress, guard against NaN, checkpoints, and exact resume."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from efface.core.erasure import Edit, Erasure
from efface.core.errors import EffaceError
from efface.core.seeds import derive_seed
from efface.core.spec import RunSpec
from efface.core.tensors import Tensor as CoreTensor

from . import checkpoint
from .loop import Loop, Stateful
from .progress import Progress, Silent

T = TypeVar("T")


@dataclass
class Run:
    """What a method gets besides model, concepts and configuration.

    Attributes:
        seed: the root seed; everything random comes from `generator` or `seed_for`.
        device: where to compute.
        folder: where checkpoints go; None keeps none.
        progress: what shows how far it is.
        spec: the run's description, which the erasure carries.
        key: what checkpoints are marked with, by default the spec's hash; a checkpoint of another is refused.
        resume: whether to go on from the checkpoints in the folder, all of this key; otherwise they are removed.
        every: steps between checkpoints; the last step always makes one.
        generators: those handed out so far, by name.
        history: every step's numbers by phase, as ``{"step": 0, "loss": 0.1, <part>: 0.05, "grad_norm": 1.2}``.
        begun: whether a loop has begun, and stale checkpoints are gone.
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
    generators: dict[str, torch.Generator] = field(default_factory=dict, repr=False)
    started: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        if self.spec is not None and not self.key:
            self.key = self.spec.hash
        if self.folder is not None and self.resume:
            checkpoint.check(self.folder, self.key)

    def erasure(self, edits: Sequence[Edit], tensors: Mapping[str, CoreTensor] | None = None) -> Erasure:
        """What a method returns: its edits and their tensors under this run's description.

        Raises:
            ValueError: the run has no spec.
        """
        if self.spec is None:
            raise ValueError("a run without a spec makes no erasure")
        return Erasure(self.spec, tuple(edits), tensors or {})

    def record(self, phase: str, numbers: Mapping[str, float]) -> None:
        """Notes what a phase without steps has to say, such as how well a system was solved; it goes where the losses go."""
        self.history.setdefault(phase, []).append({"step": len(self.history.get(phase, ())), **numbers})

    def track(self, phase: str, items: Collection[T]) -> Iterator[T]:
        """Goes through the items and shows how many are done."""
        self.progress.start(phase, len(items), 0)
        try:
            for done, item in enumerate(items, 1):
                yield item
                self.progress.update(done, {})
        finally:
            self.progress.stop()

    def seed_for(self, *labels: str | int) -> int:
        """A seed for one purpose."""
        return derive_seed(self.seed, *labels)

    def generator(self, name: str) -> torch.Generator:
        """The generator of that name, on the CPU; always the same one, and its state is part of every checkpoint."""
        if name not in self.generators:
            self.generators[name] = torch.Generator().manual_seed(self.seed_for("generator", name))
        return self.generators[name]

    def steps(
        self,
        total: int,
        parameters: Mapping[str, Tensor],
        optimiser: torch.optim.Optimizer,
        *,
        clip: float | None = None,
        phase: str = "train",
        extra: Mapping[str, Stateful] | None = None,
        every: int | None = None,
    ) -> Iterator[Step]:
        """Iterates over the steps; after a resume over those that are left, which may be none.

        Args:
            total: how many steps.
            parameters: the leaf tensors that are trained, by name.
            optimiser: over these tensors.
            clip: largest l2 norm of the gradient over all parameters; None does not clip.
            phase: the name of this loop; a method with several loops gives each its own.
            extra: what else has state.
            every: steps between checkpoints, by default the run's; 1 where a step takes as long as many others.

        Raises:
            EffaceError: no steps at all, a loss, gradient or parameter that is not finite, or a checkpoint of other tensors or steps.
        """
        if phase in self.history:
            raise ValueError(f"phase {phase!r} ran already: give every loop a name of its own")
        if total < 1:
            raise EffaceError(f"{phase} has {total} steps, which would change nothing: give it at least one")
        loop = Loop(
            self, total, dict(parameters), optimiser, clip, phase, dict(extra or {}), every or self.checkpoint_every
        )
        done = loop.restore()
        self.progress.start(phase, total, done)
        try:
            for index in range(done, total):
                step = Step(index, total, loop)
                yield step
                loop.finish(step.index, step.losses)
        finally:
            self.progress.stop()


@dataclass
class Step:
    """One step of a run.

    Attributes:
        index: 0 for the first. total: how many there are.
        losses: its numbers, filled by `minimise`.
    """

    index: int
    total: int
    _loop: Loop = field(repr=False)
    losses: dict[str, float] = field(default_factory=dict)

    def optimize(self, loss: Tensor, parts: Mapping[str, Tensor | float] | None = None) -> None:
        """Backward, clip, optimiser step, log.

        Args:
            loss: a scalar.
            parts: its parts by name, for the log only.

        Raises:
            EffaceError: the loss or its gradient is not finite; the parameters are then as before the step.
        """
        self.backward(loss, parts)
        self.update()

    def backward(self, loss: Tensor, parts: Mapping[str, Tensor | float] | None = None) -> None:
        """The first half of `minimise`, for methods that change gradients before `update`; gradients reach the trained tensors only."""
        numbers = {name: float(value) for name, value in {"loss": loss.detach(), **(parts or {})}.items()}
        self._loop.check(self.index, numbers)
        loss.backward(inputs=list(self._loop.parameters.values()))
        self.losses.update(numbers)

    def update(self) -> None:
        """The second half of `minimise`: clip, optimiser step, gradients cleared."""
        trained = list(self._loop.parameters.values())
        norm = torch.nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
        self._loop.check(self.index, {**self.losses, "grad_norm": float(norm)})
        if self._loop.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(trained, self._loop.clip, norm)
        self._loop.optimiser.step()
        self._loop.optimiser.zero_grad(set_to_none=True)
        self.losses["grad_norm"] = float(norm)
