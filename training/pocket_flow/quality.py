"""Measures pocket-flow: every number in docs/pocket-flow.md. ``python training/pocket_flow/quality.py``.

The stock FluxPipeline generates the images. Prompts, seeds, judge and rules are those of pocket's ``quality.py``.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Annotated

if not __package__:  # run as a script: this folder's modules must not hide those of training/pocket
    TRAINING = Path(__file__).resolve().parents[1]
    sys.path[:1] = [str(TRAINING), str(TRAINING / "pocket")]

import torch
import typer

from efface.detectors.pocket_judge import load_judge
from efface.models.model_ref import bundled_folder
from pocket_flow.generation import BATCH, GUIDANCE_SCALE, STEPS, generate, load_pipeline, measure_groups
from quality import SEED, prompt_groups
from quality_card import cpu_seconds, write_quality


def main(
    model: Annotated[Path | None, typer.Option(help="Folder of the model (default: the bundled pocket-flow).")] = None,
    rounds: Annotated[int, typer.Option(help="Number of images for each combination.")] = 2,
) -> None:
    """Measures the model and writes the numbers to the folder's ``training_card.json``."""
    folder = model or bundled_folder("pocket-flow")
    pipe, judge = load_pipeline(folder), load_judge()
    quality = measure_groups(pipe, judge, prompt_groups(rounds), "generating")
    quality |= {
        "CPU seconds an image": cpu_seconds(lambda: generate(pipe, ["a photo of a cat"] * BATCH, range(BATCH)), BATCH),
        "judge id": judge.id,
    }
    quality["settings"] = {
        "steps": STEPS,
        "guidance": GUIDANCE_SCALE,
        "first seed": SEED,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }
    write_quality(folder, quality)


if __name__ == "__main__":
    typer.run(main)
