"""What the training stages share: data, checkpoints that survive a kill, progress, schedules."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from efface.pocket_world import NOTHING, Scene, load_world
from scenes import draw_scene

WORLD = load_world()
TRAIN_SCENES = WORLD.scenes(heldout=False)
ALL_SCENES = TRAIN_SCENES + WORLD.scenes(heldout=True)
EMPTY_SCENES = [Scene(NOTHING, b, s) for b in WORLD.backgrounds for s in WORLD.styles]
EMPTY_SHARE = 0.04


def device() -> torch.device:
    """The fastest device at hand."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def random_scene(rng: np.random.Generator, scenes: list[Scene] = TRAIN_SCENES) -> Scene:
    """A scene that may be rendered in training; now and then one without an object."""
    pool = EMPTY_SCENES if rng.random() < EMPTY_SHARE else scenes
    return pool[int(rng.integers(len(pool)))]


def render(scenes: list[Scene], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Images ``(B, 64, 64, 3)`` of ``scenes``."""
    return np.stack([draw_scene(scene, rng) for scene in scenes])


def to_tensor(images: NDArray[np.uint8]) -> Tensor:
    """Bytes ``(B, H, W, 3)`` to floats ``(B, 3, H, W)`` in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def step_rng(seed: int, step: int) -> np.random.Generator:
    """The generator of one training step: a resumed run draws what an uninterrupted one would have drawn."""
    return np.random.default_rng([seed, step])


def save_json(path: Path, data: object) -> None:
    """Write JSON atomically."""
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    os.replace(scratch, path)


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Checkpoint:
    """The state of a stage on disk: written to a scratch file, then moved into place, so that a kill leaves the last one whole."""

    def __init__(self, folder: Path, **parts: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "checkpoint.pt"
        self.history = History()
        self.parts = {**parts, "history": self.history}

    def load(self) -> int:
        """Restore every part; returns the number of steps already done (0 without a checkpoint)."""
        if not self.path.exists():
            return 0
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        torch.set_rng_state(state["rng"])
        return int(state["step"])

    def save(self, step: int) -> None:
        """Write every part after ``step`` steps."""
        state = {name: part.state_dict() for name, part in self.parts.items()}
        scratch = self.path.with_suffix(".tmp")
        torch.save(state | {"step": step, "rng": torch.get_rng_state()}, scratch)
        os.replace(scratch, self.path)


class Ema(nn.Module):
    """An exponential moving average of a module's parameters."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.shadow = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move towards ``module``; the decay is warmed up over the first steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        theirs = module.state_dict()
        floats = [k for k in self.shadow if self.shadow[k].is_floating_point()]
        torch._foreach_lerp_([self.shadow[k] for k in floats], [theirs[k] for k in floats], 1 - decay)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The averaged parameters."""
        return self.shadow

    def load_state_dict(self, state: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Restore the averaged parameters."""
        for key, value in state.items():
            self.shadow[key].copy_(value)


class History:
    """Smoothed measures by step, kept through a checkpoint."""

    def __init__(self) -> None:
        self.columns: list[str] = []
        self.rows: list[list[float]] = []

    def add(self, step: int, measures: dict[str, float]) -> None:
        """One row."""
        self.columns = ["step", *measures]
        self.rows.append([step, *measures.values()])

    def write(self, path: Path, **about: int) -> None:
        """Write the curve and what it is of (steps, batch, seed) as JSON."""
        save_json(path, {"columns": self.columns, "rows": self.rows, **about})

    def state_dict(self) -> dict[str, Any]:
        """The rows and their columns."""
        return {"columns": self.columns, "rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the rows."""
        self.columns, self.rows = state.get("columns", []), state["rows"]


def train(
    name: str,
    steps: int,
    checkpoint: Checkpoint,
    one_step: Callable[[int], dict[str, float]],
    *,
    at_checkpoint: Callable[[], None] | None = None,
    every: int = 250,
    log: int = 25,
) -> None:
    """Run ``one_step`` from the checkpoint on, with a progress bar; ``at_checkpoint`` is called after every checkpoint."""
    start = checkpoint.load()
    smooth: dict[str, float] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    began = time.time()
    with Progress(*columns) as bar:
        task = bar.add_task(name, total=steps, completed=start)
        for step in range(start, steps):
            for key, value in one_step(step).items():
                if not np.isfinite(value):
                    raise SystemExit(
                        f"{name}: {key} is {value} at step {step}; the last checkpoint is {checkpoint.path}"
                    )
                smooth[key] = value if key not in smooth else 0.97 * smooth[key] + 0.03 * value
            text = " ".join(f"{k} {v:.4f}" for k, v in smooth.items())
            bar.update(task, advance=1, description=f"{name} {text}")
            if not bar.console.is_terminal and (step + 1) % log == 0:
                bar.console.print(
                    f"{name} {step + 1}/{steps} {text} {(time.time() - began) / (step + 1 - start):.3f} s/step",
                    highlight=False,
                )
            if (step + 1) % every == 0 or step + 1 == steps:
                checkpoint.history.add(step + 1, smooth)
                checkpoint.save(step + 1)
                if at_checkpoint:
                    at_checkpoint()
