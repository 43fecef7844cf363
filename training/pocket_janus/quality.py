"""Measures pocket-janus: every number in docs/pocket-janus.md. ``python training/pocket_janus/quality.py``.

Prompts, seeds, judge and rules are those of pocket's ``quality.py``; the model samples with its own guidance scale.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from pathlib import Path
from typing import Annotated

if not __package__:  # run as a script: this folder's modules must not hide those of training/pocket
    TRAINING = Path(__file__).resolve().parents[1]
    sys.path[:1] = [str(TRAINING), str(TRAINING / "pocket")]

import torch
import typer

from efface.core.io import atomic_write_json
from efface.detectors.pocket_judge import load_judge
from efface.models.janus import JanusModel
from efface.models.loading import load_model
from efface.models.model_ref import bundled_folder
from quality import SEED, accuracies, prompt_groups

BATCH = 16


def cpu_seconds(model: JanusModel) -> float:
    """Returns the CPU time per image in seconds at batch 16, from the second of two runs.

    Unlike wall time, it hardly depends on other load of the machine; it is the sum of all threads.
    """
    for _ in range(2):
        started = time.process_time()
        model.sample(["a photo of a cat"] * BATCH, seeds=range(BATCH))
        seconds = (time.process_time() - started) / BATCH
    return round(seconds, 4)


def main(
    model: Annotated[Path | None, typer.Option(help="Folder of the model (default: the bundled pocket-janus).")] = None,
    rounds: Annotated[int, typer.Option(help="Number of images for each combination.")] = 2,
) -> None:
    """Measures the model and writes the numbers to the folder's ``training_card.json``."""
    folder = model or bundled_folder("pocket-janus")
    loaded, judge, groups = load_model(folder), load_judge(), prompt_groups(rounds)
    assert isinstance(loaded, JanusModel)
    predicted = {
        name: judge(loaded.sample([prompt for prompt, _ in rows], seeds=[SEED + i for i in range(len(rows))]))
        for name, rows in groups.items()
    }
    quality = accuracies(predicted, {name: [scene for _, scene in rows] for name, rows in groups.items()})
    quality |= {"CPU seconds an image": cpu_seconds(loaded), "judge id": judge.id}
    quality["settings"] = {
        "guidance": loaded.default_guidance_scale,
        "first seed": SEED,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }
    path = folder / "training_card.json"
    card = json.loads(path.read_text(encoding="utf-8"))
    atomic_write_json(path, {**card, "quality": quality})
    for name, value in quality.items():
        print(name, value)


if __name__ == "__main__":
    typer.run(main)
