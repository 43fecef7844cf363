"""The inside of `Run.steps`: what the steps of one loop share, the guard against NaN, saving and restoring."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from efface.core.errors import EffaceError

from . import checkpoint

if TYPE_CHECKING:
    from .run import Run


class Stateful(Protocol):
    """Something besides parameters and optimiser that a checkpoint must hold, such as a pool that a student refreshes."""

    def state(self) -> dict[str, Tensor]:
        """Its state as tensors."""
        ...

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes a state over."""
        ...


@dataclass
class Loop:
    """What the steps of one loop share."""

    run: Run
    total: int
    parameters: dict[str, Tensor]
    optimiser: torch.optim.Optimizer
    clip: float | None
    phase: str
    extra: dict[str, Stateful]
    every: int

    def check(self, index: int, numbers: Mapping[str, float]) -> None:
        """Raises `EffaceError` unless all numbers of a step are finite."""
        if all(math.isfinite(value) for value in numbers.values()):
            return
        said = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        kept = checkpoint.all_of(self.run.folder, self.phase) if self.run.folder else []
        where = f"the last good checkpoint is {kept[-1]}" if kept else "there is no checkpoint"
        raise EffaceError(
            f"{self.phase} is not finite at step {index} of {self.total} ({said}): lower the learning rate; {where}"
        )

    def finish(self, index: int, losses: Mapping[str, float]) -> None:
        """Logs a step that was made, and writes a checkpoint where one is due."""
        self.run.history[self.phase].append({"step": index, **losses})
        self.run.progress.update(index + 1, losses)
        if self.run.folder and ((index + 1) % self.every == 0 or index + 1 == self.total):
            self.save(self.run.folder, index + 1)

    def save(self, folder: Path, done: int) -> None:
        """Writes the checkpoint after ``done`` steps; never one with NaN in it."""
        for name, tensor in self.parameters.items():
            if not bool(tensor.isfinite().all()):
                self.check(done - 1, {name: math.nan})
        state, rest = checkpoint.pack_optimiser(self.optimiser)
        tensors = {f"parameters/{name}": tensor for name, tensor in self.parameters.items()}
        tensors |= {f"optimiser/{name}": tensor for name, tensor in state.items()}
        tensors |= {f"generators/{name}": generator.get_state() for name, generator in self.run.generators.items()}
        tensors |= {
            f"extra/{name}/{key}": value for name, item in self.extra.items() for key, value in item.state().items()
        }
        content = {
            "run": self.run.key,
            "step": done,
            "total": self.total,
            "optimiser": rest,
            "history": self.run.history[self.phase],
        }
        checkpoint.save(folder, self.phase, done, tensors, content)

    def restore(self) -> int:
        """Loads the last checkpoint where that is wanted; returns how many steps are done."""
        first, folder = not self.run.started, self.run.folder
        self.run.started = True
        self.run.history[self.phase] = []
        if folder and first and not self.run.resume:
            checkpoint.clear(folder)
        found = checkpoint.all_of(folder, self.phase) if folder else []
        if not found:
            return 0
        tensors, content = checkpoint.load(found[-1])
        if content["total"] != self.total:
            raise EffaceError(f"{found[-1]} is a checkpoint of another run: choose another folder, or do not resume")
        self._take(tensors, content, found[-1])
        return int(content["step"])

    def _take(self, tensors: Mapping[str, Tensor], content: Mapping[str, Any], path: Path) -> None:
        groups: dict[str, dict[str, Tensor]] = {"parameters": {}, "optimiser": {}, "generators": {}, "extra": {}}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition("/")
            groups[kind][rest] = tensor
        extras = {name.partition("/")[0] for name in groups["extra"]}
        if _shapes(groups["parameters"]) != _shapes(self.parameters) or not self.extra.keys() >= extras:
            raise EffaceError(
                f"{path} holds other tensors than this run trains: choose another folder, or do not resume"
            )
        with torch.no_grad():
            for name, tensor in groups["parameters"].items():
                self.parameters[name].copy_(tensor)
        checkpoint.unpack_optimiser(self.optimiser, groups["optimiser"], content["optimiser"])
        for name, state in groups["generators"].items():
            self.run.generator(name).set_state(state)
        for name, item in self.extra.items():
            item.load_state(
                {key[len(name) + 1 :]: value for key, value in groups["extra"].items() if key.startswith(f"{name}/")}
            )
        self.run.history[self.phase] = list(content["history"])


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
