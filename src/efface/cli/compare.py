"""``efface compare``: images of prompts before and after an erasure, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app
from .model_options import Base, model_options
from .options import AllowBaseMismatch, Artifact, Json
from .output import open_in_browser, print_result
from .sample import FirstSeed, GuidanceScale, NumInferenceSteps, Prompts

PairsPerPrompt = Annotated[int, typer.Option("-n", min=1, help="Number of pairs of images per prompt.")]


@app.command()
@model_options("model")
def compare(
    artifact: Artifact,
    prompts: Prompts,
    images_per_prompt: PairsPerPrompt = 4,
    seed: FirstSeed = 0,
    out: Annotated[Path, typer.Option(help="HTML page to write; the PNG grid is beside it.")] = Path("compare.html"),
    model: Base = None,
    num_inference_steps: NumInferenceSteps = 20,
    guidance_scale: GuidanceScale = None,
    allow_base_mismatch: AllowBaseMismatch = False,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Generate images before and after an erasure with the same seeds: one HTML page and one labelled PNG grid."""
    from efface import api
    from efface.ops.training.progress import terminal_progress

    comparison = api.compare(
        artifact, prompts, out=out, images_per_prompt=images_per_prompt, seed=seed, model=model,
        num_inference_steps=num_inference_steps, guidance_scale=guidance_scale,
        allow_base_mismatch=allow_base_mismatch, progress=terminal_progress(),
    )  # fmt: skip
    data = {"page": str(comparison.page), "grid": str(comparison.grid), "pairs": comparison.num_pairs}
    print_result(data, f"{comparison.page}\n{comparison.grid}", as_json)
    if open_page:
        open_in_browser(comparison.page)
