"""``efface benchmarks hub``: two aspects of the Holistic Unlearning Benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .benchmarks import benchmarks
from .options import Artifact, BenchmarkRef, Json, Split
from .output import print_result

Limit = Annotated[int, typer.Option(min=1, help="Maximum number of images of a language, and of the near phrases.")]
TranslationFile = Annotated[
    Path | None,
    typer.Option(help="YAML file with phrases by language, such as 'french: [une arme]'; by default efface's own."),
]


@benchmarks.command()
def hub(
    artifact: Artifact,
    benchmark: BenchmarkRef = None,
    split: Split = "test",
    limit: Limit = 24,
    translations: TranslationFile = None,
    as_json: Json = False,
) -> None:
    """Measure translations of the concept, and the phrases that CLIP confuses most with it (HUB)."""
    from efface.api.hub import hub as measure
    from efface.ops.training.progress import terminal_progress

    scores = measure(
        artifact, benchmark, split=split, limit=limit, translations=translations, progress=terminal_progress()
    )
    lines = [score.summary() for score in scores]
    unknown = [score.group for score in scores if score.metric == "translation_rer" and score.value is None]
    if unknown:
        lines.append(f"the unedited model does not know the concept's words in {', '.join(unknown)}")
    print_result([score.to_dict() for score in scores], "\n".join(lines), as_json)
