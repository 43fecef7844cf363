"""``efface benchmarks erase-eval``: EraseEval's four protocols."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .benchmarks import benchmarks
from .options import Artifact, BenchmarkRef, Detector, Json, Split
from .output import print_result

Images = Annotated[int, typer.Option("--images", help="Number of images of a prompt in M1 and M2.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Maximum number of prompts of a protocol; all by default.")]
CaptionerName = Annotated[
    str | None,
    typer.Option("--captioner", help="pocket-judge (pocket's default), endpoint, or a BLIP model's folder or hub id."),
]
YesNo = Annotated[
    str, typer.Option(help="What answers whether an image shows the concept: detector (the benchmark's) or endpoint.")
]
Endpoint = Annotated[str | None, typer.Option(help="URL of a vision-language model's chat endpoint.")]
LanguageModel = Annotated[str, typer.Option(help="Name of the model at the endpoint.")]
Real = Annotated[Path | None, typer.Option(help="Folder of real images for M4; pocket draws its own.")]
Clip = Annotated[str | None, typer.Option(help="CLIP model instead of the benchmark's, a folder or hub id.")]


@benchmarks.command(name="erase-eval")
def erase_eval(
    artifact: Artifact,
    benchmark: BenchmarkRef = None,
    split: Split = "test",
    images: Images = 5,
    limit: Limit = None,
    captioner: CaptionerName = None,
    yes_no: YesNo = "detector",
    endpoint: Endpoint = None,
    language_model: LanguageModel = "",
    real: Real = None,
    detector: Detector = None,
    clip: Clip = None,
    as_json: Json = False,
) -> None:
    """Measure an erasure by EraseEval's four protocols, and combine them to one score."""
    from efface.api.erase_eval import erase_eval as measure
    from efface.core.chat_endpoint import check_model_named
    from efface.ops.training.progress import terminal_progress

    if endpoint is not None:
        check_model_named(language_model)
    scores = measure(
        artifact, benchmark, split=split, images_per_prompt=images, limit=limit, captioner=captioner, yes_no=yes_no,
        endpoint=None if endpoint is None else (endpoint, language_model), real=real, detector=detector, clip=clip,
        progress=terminal_progress(),
    )  # fmt: skip
    lines = [score.summary() for score in scores]
    if all(score.metric != "m4" for score in scores):
        lines.append("m4 is left out, and of the combined score too: give --real FOLDER with real images")
    print_result([score.to_dict() for score in scores], "\n".join(lines), as_json)
