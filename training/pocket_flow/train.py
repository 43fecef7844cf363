"""Trains pocket-flow: ``python training/pocket_flow/train.py --out FOLDER --seconds 350``.

Needs a GPU and about a minute more than ``--seconds``, for data and scores. A run is not resumed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

if not __package__:  # run as a script: this folder's modules must not hide those of training/pocket
    TRAINING = Path(__file__).resolve().parents[1]
    sys.path[:1] = [str(TRAINING), str(TRAINING / "pocket")]

import typer

from pocket_flow.stages import run


def main(
    out: Annotated[Path, typer.Option(help="Folder of the model.")] = Path("pocket-flow-run"),
    seconds: Annotated[float, typer.Option(help="Training time of both stages in seconds.")] = 350,
    flow_share: Annotated[float, typer.Option(help="Share of flow matching; the rest distils guidance.")] = 0.76,
    batch: Annotated[int, typer.Option(help="Number of images in a step.")] = 1024,
    lr: Annotated[float, typer.Option(help="Maximum learning rate.")] = 1.5e-3,
    copies: Annotated[int, typer.Option(help="Number of renderings of each scene.")] = 96,
    num_captions: Annotated[int, typer.Option(help="Number of captions of each scene.")] = 128,
    limit: Annotated[int | None, typer.Option(help="Maximum number of scenes and of scored prompts.")] = None,
    compiled: Annotated[bool, typer.Option(help="Compile the denoiser's blocks.")] = True,
    seed: Annotated[int, typer.Option(help="Seed of weights and batches.")] = 22,
) -> None:
    """Trains by flow matching, distils guidance, scores with pocket's judge and writes the folder."""
    run(
        out,
        seconds,
        flow_share=flow_share,
        batch=batch,
        lr=lr,
        copies=copies,
        num_captions=num_captions,
        limit=limit,
        compiled=compiled,
        seed=seed,
    )


if __name__ == "__main__":
    typer.run(main)
