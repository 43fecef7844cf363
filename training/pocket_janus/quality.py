"""Measures pocket-janus: every number in docs/pocket-janus.md. ``python training/pocket_janus/quality.py``.

Prompts, seeds, judge and rules are those of pocket's ``quality.py``; the model samples with its own guidance scale.
As many prompts name combinations that training rendered: the difference is what the model learnt by heart.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Annotated

if not __package__:  # run as a script: this folder's modules must not hide those of training/pocket
    TRAINING = Path(__file__).resolve().parents[1]
    sys.path[:1] = [str(TRAINING), str(TRAINING / "pocket")]

import numpy as np
import torch
import typer

from common import TRAIN_SCENES
from efface.core.subsample import evenly_spaced
from efface.detectors.pocket_judge import load_judge
from efface.models.janus import JanusModel
from efface.models.loading import load_model
from efface.models.model_ref import bundled_folder
from quality import SEED, accuracies, prompt_groups, prompts_of, rate
from quality_card import cpu_seconds, write_quality

BATCH = 16
TRAINED = "named object, combination of training"


def main(
    model: Annotated[Path | None, typer.Option(help="Folder of the model (default: the bundled pocket-janus).")] = None,
    rounds: Annotated[int, typer.Option(help="Number of images for each combination.")] = 2,
) -> None:
    """Measures the model and writes the numbers to the folder's ``training_card.json``."""
    folder = model or bundled_folder("pocket-janus")
    loaded, judge, groups = load_model(folder), load_judge(), prompt_groups(rounds)
    assert isinstance(loaded, JanusModel)
    groups[TRAINED] = prompts_of(evenly_spaced(TRAIN_SCENES, len(groups["named"])), np.random.default_rng(SEED))
    predicted = {
        name: judge(loaded.sample([prompt for prompt, _ in rows], seeds=[SEED + i for i in range(len(rows))]))
        for name, rows in groups.items()
    }
    quality = accuracies(predicted, {name: [scene for _, scene in rows] for name, rows in groups.items()})
    pairs = zip(predicted[TRAINED].object, groups[TRAINED], strict=True)
    quality |= {
        TRAINED: rate([seen == scene.object for seen, (_, scene) in pairs]),
        "CPU seconds an image": cpu_seconds(
            lambda: loaded.sample(["a photo of a cat"] * BATCH, seeds=range(BATCH)), BATCH
        ),
        "judge id": judge.id,
    }
    quality["settings"] = {
        "guidance": loaded.default_guidance_scale,
        "first seed": SEED,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }
    write_quality(folder, quality)


if __name__ == "__main__":
    typer.run(main)
