"""``efface coreferences``: propose coreferents of concepts, and neighbours to retain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from .app import app
from .erase import ConceptNames, Kind, RetainFile
from .model_options import POCKET, Model, model_options
from .options import Json, Seed
from .output import print_result
from .parsing import ConceptOptions, build_concepts

WordsFile = Annotated[Path, typer.Option("--out", help="YAML file to write.")]
Endpoint = Annotated[
    str | None,
    typer.Option(
        help="OpenAI-compatible endpoint to ask, such as http://localhost:11434/v1; its key is read from "
        "EFFACE_API_KEY. Without it, the words come from the model's own vocabulary."
    ),
]
LanguageModel = Annotated[str | None, typer.Option(help="Name of the language model at the endpoint.")]
Clip = Annotated[
    str | None,
    typer.Option(
        help="CLIP model that reads the model's images: a folder or hub id; by default pocket's own, or the denoiser."
    ),
]
Count = Annotated[int, typer.Option(min=1, help="Maximum number of coreferents, and of retained words.")]
NumImages = Annotated[int, typer.Option("--images", min=2, help="Number of images of each concept to read words from.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file.")]


@app.command()
@model_options("model")
def coreferences(
    concepts: ConceptNames = None,
    out: WordsFile = Path("coreferences.yaml"),
    model: Model = POCKET,
    endpoint: Endpoint = None,
    language_model: LanguageModel = None,
    clip: Clip = None,
    kind: Kind = None,
    retain_file: RetainFile = None,
    count: Count = 10,
    num_images: NumImages = 128,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Propose words to erase with concepts, and neighbours to retain: a YAML file to read, edit and use with crce."""
    from dataclasses import asdict

    from efface import api
    from efface.ops.training.progress import terminal_progress

    targets = build_concepts(concepts or [], None, ConceptOptions(kind=kind, retain_file=retain_file), model).concepts
    found = api.propose_coreferences(
        targets, out=out, model=model, endpoint=endpoint or "", language_model=language_model or "", clip=clip or "",
        count=count, num_images=num_images, seed=seed, overwrite=overwrite, progress=terminal_progress(),
    )  # fmt: skip
    lines = [
        line
        for name, words in found.items()
        for line in (
            f"{name}: erased with it: {_words(words.coreferents)}",
            f"{name}: retained: {_words(words.retained)}",
        )
    ]
    usage = f"read and edit {out}, then: efface erase {' '.join(found)} --method crce --set coreference_file={out}"
    data = {name: asdict(words) for name, words in found.items()}
    print_result({"out": str(out), "concepts": data}, "\n".join([*lines, usage]), as_json)


def _words(words: Mapping[str, float]) -> str:
    """Lists words with their certainties."""
    return ", ".join(f"{word} {certainty:.1f}" for word, certainty in words.items())
