"""One training loop of a run: its steps, the check for non-finite numbers, and its checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from efface.core.errors import EffaceError

from . import checkpoint
from .progress import Progress


class Stateful(Protocol):
    """An object besides parameters and optimiser whose state a checkpoint must hold, such as a refreshed pool."""

    def state(self) -> dict[str, Tensor]:
        """Returns its state as tensors by name."""
        ...

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores a state that `state` returned."""
        ...


class RunContext(Protocol):
    """The attributes of a `Run` that its loops use."""

    folder: Path | None
    progress: Progress
    key: str
    resume: bool
    history: dict[str, list[dict[str, float]]]
    generators: dict[str, torch.Generator]
    started: bool

    def generator(self, name: str) -> torch.Generator:
        """Returns the run's generator of that name."""
        ...


@dataclass
class TrainingLoop:
    """State that the steps of one loop share; the arguments are those of `Run.steps`."""

    run: RunContext
    total_steps: int
    parameters: dict[str, Tensor]
    optimiser: torch.optim.Optimizer
    max_grad_norm: float | None
    phase: str
    extra_state: dict[str, Stateful]
    checkpoint_every: int

    def check_finite(self, index: int, numbers: Mapping[str, float]) -> None:
        """Raises `EffaceError` unless all numbers of a step are finite."""
        if all(math.isfinite(value) for value in numbers.values()):
            return
        values = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        checkpoints = checkpoint.list_checkpoints(self.run.folder, self.phase) if self.run.folder else []
        hint = f"the last good checkpoint is {checkpoints[-1]}" if checkpoints else "there is no checkpoint"
        raise EffaceError(
            f"{self.phase} is not finite at step {index} of {self.total_steps} ({values}): "
            f"lower the learning rate; {hint}"
        )

    def finish(self, index: int, losses: Mapping[str, float]) -> None:
        """Logs a completed step and writes a checkpoint if one is due."""
        self.run.history[self.phase].append({"step": index, **losses})
        self.run.progress.update(index + 1, losses)
        completed = index + 1
        if self.run.folder and (completed % self.checkpoint_every == 0 or completed == self.total_steps):
            self.save(self.run.folder, completed)

    def save(self, folder: Path, completed: int) -> None:
        """Writes the checkpoint after ``completed`` steps; raises `EffaceError` if a parameter is not finite."""
        for name, tensor in self.parameters.items():
            if not bool(tensor.isfinite().all()):
                self.check_finite(completed - 1, {name: math.nan})
        optimiser_tensors, optimiser_content = checkpoint.pack_optimiser(self.optimiser)
        tensors = {f"parameters/{name}": tensor for name, tensor in self.parameters.items()}
        tensors |= {f"optimiser/{name}": tensor for name, tensor in optimiser_tensors.items()}
        tensors |= {f"generators/{name}": generator.get_state() for name, generator in self.run.generators.items()}
        for name, item in self.extra_state.items():
            tensors |= {f"extra_state/{name}/{key}": value for key, value in item.state().items()}
        content = {
            "run_key": self.run.key,
            "completed_steps": completed,
            "total_steps": self.total_steps,
            "optimiser": optimiser_content,
            "history": self.run.history[self.phase],
        }
        checkpoint.save(folder, self.phase, completed, tensors, content)

    def restore(self) -> int:
        """Loads the last checkpoint of a resumed run; returns the number of completed steps.

        The first loop of a run that does not resume removes the checkpoints of earlier runs.
        """
        is_first_loop, folder = not self.run.started, self.run.folder
        self.run.started = True
        self.run.history[self.phase] = []
        if folder and is_first_loop and not self.run.resume:
            checkpoint.remove_all(folder)
        checkpoints = checkpoint.list_checkpoints(folder, self.phase) if folder else []
        if not checkpoints:
            return 0
        path = checkpoints[-1]
        tensors, content = checkpoint.load(path)
        if content["total_steps"] != self.total_steps:
            raise EffaceError(f"{path} is a checkpoint of another run: choose another folder, or do not resume")
        self._load(tensors, content, path)
        return int(content["completed_steps"])

    def _load(self, tensors: Mapping[str, Tensor], content: Mapping[str, Any], path: Path) -> None:
        groups: dict[str, dict[str, Tensor]] = {"parameters": {}, "optimiser": {}, "generators": {}, "extra_state": {}}
        for name, tensor in tensors.items():
            group, _, name_in_group = name.partition("/")
            groups[group][name_in_group] = tensor
        saved_extra = {name.partition("/")[0] for name in groups["extra_state"]}
        if _shapes(groups["parameters"]) != _shapes(self.parameters) or not self.extra_state.keys() >= saved_extra:
            raise EffaceError(
                f"{path} holds other tensors than this run trains: choose another folder, or do not resume"
            )
        with torch.no_grad():
            for name, tensor in groups["parameters"].items():
                self.parameters[name].copy_(tensor)
        checkpoint.unpack_optimiser(self.optimiser, groups["optimiser"], content["optimiser"])
        for name, state in groups["generators"].items():
            self.run.generator(name).set_state(state)
        for name, item in self.extra_state.items():
            prefix = f"{name}/"
            item.load_state(
                {key.removeprefix(prefix): v for key, v in groups["extra_state"].items() if key.startswith(prefix)}
            )
        self.run.history[self.phase] = list(content["history"])


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


@dataclass
class Step:
    """One step of a training loop.

    Attributes:
        index: number of the step, from 0.
        total_steps: number of steps of the loop.
        losses: the step's numbers by name, filled by `optimize`.
    """

    index: int
    total_steps: int
    _loop: TrainingLoop = field(repr=False)
    losses: dict[str, float] = field(default_factory=dict)

    def optimize(self, loss: Tensor, parts: Mapping[str, Tensor | float] | None = None) -> None:
        """Backpropagates, clips the gradient, updates the parameters and logs.

        Args:
            loss: a scalar.
            parts: terms of the loss by name, for the log only.

        Raises:
            EffaceError: the loss or its gradient is not finite; the parameters are then unchanged.
        """
        self.backward(loss, parts)
        self.update()

    def backward(self, loss: Tensor, parts: Mapping[str, Tensor | float] | None = None) -> None:
        """First half of `optimize`, for methods that change gradients before `update`.

        Gradients reach the trained tensors only.
        """
        numbers = {name: float(value) for name, value in {"loss": loss.detach(), **(parts or {})}.items()}
        self._loop.check_finite(self.index, numbers)
        loss.backward(inputs=list(self._loop.parameters.values()))
        self.losses.update(numbers)

    def update(self) -> None:
        """Second half of `optimize`: clips, updates the parameters and clears the gradients."""
        parameters = list(self._loop.parameters.values())
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        self._loop.check_finite(self.index, {**self.losses, "grad_norm": float(norm)})
        if self._loop.max_grad_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, self._loop.max_grad_norm, norm)
        self._loop.optimiser.step()
        self._loop.optimiser.zero_grad(set_to_none=True)
        self.losses["grad_norm"] = float(norm)
