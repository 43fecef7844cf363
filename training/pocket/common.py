"""Shared parts of the training stages: data, checkpoints that survive a kill, and the training loop."""

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
from efface.pocket_world.scenes import draw_scene

WORLD = load_world()
TRAIN_SCENES = WORLD.scenes(heldout=False)
ALL_SCENES = TRAIN_SCENES + WORLD.scenes(heldout=True)
EMPTY_SCENES = [Scene(NOTHING, b, s) for b in WORLD.backgrounds for s in WORLD.styles]
EMPTY_SHARE = 0.04
PROGRESS_COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
)


def device() -> torch.device:
    """Returns the fastest available device."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def random_scene(rng: np.random.Generator, scenes: list[Scene] = TRAIN_SCENES) -> Scene:
    """Samples a scene; a share of `EMPTY_SHARE` has no object."""
    candidates = EMPTY_SCENES if rng.random() < EMPTY_SHARE else scenes
    return candidates[int(rng.integers(len(candidates)))]


def render(scenes: list[Scene], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draws scenes as images ``(B, 64, 64, 3)``."""
    return np.stack([draw_scene(scene, rng) for scene in scenes])


def to_tensor(images: NDArray[np.uint8]) -> Tensor:
    """Converts bytes ``(B, H, W, 3)`` to floats ``(B, 3, H, W)`` in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def step_rng(seed: int, step: int) -> np.random.Generator:
    """Returns the generator of one training step, so that a resumed run samples the same as an uninterrupted one."""
    return np.random.default_rng([seed, step])


def save_json(path: Path, data: object) -> None:
    """Writes JSON atomically."""
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    os.replace(scratch, path)


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file as hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Checkpoint:
    """The state of a stage on disk; written atomically, so that a kill leaves the last checkpoint complete."""

    def __init__(self, folder: Path, **parts: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "checkpoint.pt"
        self.history = History()
        self.parts = {**parts, "history": self.history}

    def load(self) -> int:
        """Restores every part; returns the number of finished steps (0 without a checkpoint)."""
        if not self.path.exists():
            return 0
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        torch.set_rng_state(state["rng"])
        return int(state["step"])

    def save(self, step: int) -> None:
        """Writes every part after ``step`` steps."""
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
        """Moves the average towards the module; the first steps use a smaller decay."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = module.state_dict()
        floats = [k for k in self.shadow if self.shadow[k].is_floating_point()]
        torch._foreach_lerp_([self.shadow[k] for k in floats], [current[k] for k in floats], 1 - decay)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Returns the averaged parameters."""
        return self.shadow

    def load_state_dict(self, state: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Restores the averaged parameters."""
        for key, value in state.items():
            self.shadow[key].copy_(value)


class History:
    """Smoothed measures by step, saved in the checkpoint."""

    def __init__(self) -> None:
        self.columns: list[str] = []
        self.rows: list[list[float]] = []

    def add(self, step: int, measures: dict[str, float]) -> None:
        """Adds the measures of a step."""
        self.columns = ["step", *measures]
        self.rows.append([step, *measures.values()])

    def write(self, path: Path, **settings: int) -> None:
        """Writes the curve and the stage's settings (steps, batch, seed) as JSON."""
        save_json(path, {"columns": self.columns, "rows": self.rows, **settings})

    def state_dict(self) -> dict[str, Any]:
        """Returns the rows and their columns."""
        return {"columns": self.columns, "rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the rows."""
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
    """Runs ``one_step`` from the checkpoint on, with a progress bar; calls ``at_checkpoint`` after every checkpoint."""
    start = checkpoint.load()
    smooth: dict[str, float] = {}
    started = time.time()
    with Progress(*PROGRESS_COLUMNS) as bar:
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
                seconds = (time.time() - started) / (step + 1 - start)
                bar.console.print(f"{name} {step + 1}/{steps} {text} {seconds:.3f} s/step", highlight=False)
            if (step + 1) % every == 0 or step + 1 == steps:
                checkpoint.history.add(step + 1, smooth)
                checkpoint.save(step + 1)
                if at_checkpoint:
                    at_checkpoint()
