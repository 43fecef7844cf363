"""Train the embedded models: ``python training/pocket/train.py STAGE --out FOLDER`` (one of STAGES).

Every stage is seeded, shows its progress and resumes after a kill; run them in the order above. Hours on two cores, minutes on a GPU.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import torch
import typer

STAGES = ("clip", "vae", "judge", "unet", "decoder", "card", "sibling")


def main(
    stage: Annotated[str, typer.Argument(help=f"one of: {', '.join(STAGES)}")],
    out: Annotated[Path, typer.Option(help="folder for the models and the checkpoints")] = Path("pocket-run"),
    steps: Annotated[int | None, typer.Option(help="training steps (default: the stage's own)")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads (default: all cores)")] = None,
) -> None:
    """Run one training stage."""
    if stage not in STAGES:
        raise typer.BadParameter(f"no stage {stage!r}; there are {', '.join(STAGES)}")
    if threads:
        torch.set_num_threads(threads)
    run = importlib.import_module({"clip": "contrastive"}.get(stage, stage)).run
    run(out, **({"steps": steps} if steps else {}))


if __name__ == "__main__":
    typer.run(main)
