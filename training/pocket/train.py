"""Trains the bundled models: ``python training/pocket/train.py STAGE --out FOLDER``.

Run the stages in the order of `STAGES`. Every stage is seeded, shows its progress and resumes after a kill. All stages
take hours on two cores and minutes on a GPU.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import torch
import typer

PARTS = ("clip", "vae", "judge", "unet", "decoder", "image_prompt", "card")
STAGES = (*PARTS, "sibling", "classifier", "text_autoencoder")


def main(
    stage: Annotated[str, typer.Argument(help=f"Stage to train: {', '.join(STAGES)}.")],
    out: Annotated[Path, typer.Option(help="Folder for the models and the checkpoints.")] = Path("pocket-run"),
    steps: Annotated[int | None, typer.Option(help="Number of training steps (default: the stage's own).")] = None,
    threads: Annotated[int | None, typer.Option(help="Number of CPU threads (default: all cores).")] = None,
) -> None:
    """Runs one training stage."""
    if stage not in STAGES:
        raise typer.BadParameter(f"unknown stage {stage!r}: choose one of {', '.join(STAGES)}")
    if threads:
        torch.set_num_threads(threads)
    run = importlib.import_module({"clip": "contrastive"}.get(stage, stage)).run
    run(out, **({"steps": steps} if steps else {}))


if __name__ == "__main__":
    typer.run(main)
