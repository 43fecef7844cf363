"""``efface evaluate``: evaluate an erasure on a benchmark."""

from __future__ import annotations

from typing import Annotated

import typer

from .app import app
from .interruption import continues_from_cache, on_interrupt
from .model_options import Base, model_options
from .options import (
    AllowBaseMismatch,
    AllowBenchmarkMismatch,
    Artifact,
    BenchmarkRef,
    Detector,
    ImageLimit,
    Json,
    Split,
)
from .output import print_result

FirstSeed = Annotated[
    int | None, typer.Option("--seed", min=0, help="Seed of the first image; the split's own by default.")
]
FidImages = Annotated[
    int | None,
    typer.Option(
        "--fid", help="Number of images of unrelated prompts to compute an FID on, 2000 or more; no FID by default."
    ),
]
Clip = Annotated[
    str | None,
    typer.Option(help="CLIP model of the CLIP score instead of the benchmark's: a folder, a hub id or pocket-clip."),
]
Features = Annotated[
    str | None,
    typer.Option(
        help="Feature network of FID and KID instead of the benchmark's: Inception as .safetensors, or any as .onnx."
    ),
]
CacheImages = Annotated[
    bool, typer.Option("--cache-images/--no-cache-images", help="Keep generated images in the image cache.")
]


@app.command()
@model_options("model")
def evaluate(
    artifact: Artifact,
    benchmark: BenchmarkRef = None,
    split: Split = "test",
    seed: FirstSeed = None,
    limit: ImageLimit = None,
    fid: FidImages = None,
    detector: Detector = None,
    clip: Clip = None,
    features: Features = None,
    model: Base = None,
    allow_base_mismatch: AllowBaseMismatch = False,
    allow_benchmark_mismatch: AllowBenchmarkMismatch = False,
    cache_images: CacheImages = True,
    as_json: Json = False,
) -> None:
    """Evaluate an erasure and its saved attacks: erasure, retention, attack success and the verdict."""
    from efface import api
    from efface.ops.training.progress import terminal_progress

    from .scores import result_as_data, result_as_text

    if cache_images:
        on_interrupt(continues_from_cache)
    result = api.evaluate(
        artifact, benchmark, split=split, seed=seed, limit=limit, fid=fid, detector=detector, clip=clip,
        features=features, model=model, allow_base_mismatch=allow_base_mismatch,
        allow_benchmark_mismatch=allow_benchmark_mismatch, cache_images=cache_images,
        progress=terminal_progress(),
    )  # fmt: skip
    print_result(result_as_data(result), result_as_text(result, artifact), as_json)
