"""Measure erasures by the published benchmarks: ``python benchmarks/published.py uce esd --control ARTIFACT``.

EraseEval, M-ErasureBench and HUB on erasures of weapon from pocket, with few images each. The scores lie in
``docs/published``, from which `docs/generate.py` writes the tables of ``docs/published_benchmarks.md``. A method that
has scores there is not measured again: remove its file first.
"""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from efface import api
from efface.api.erase_eval import erase_eval
from efface.api.hub import hub
from efface.benchmarks.benchmark import Benchmark
from efface.benchmarks.result_store import ResultKey, ResultStore
from efface.core.result import Result
from efface.core.score import Score
from efface.models.loading import load_model
from efface.ops.training.progress import RichProgress
from efface.studies.m_erasure import m_erasure

STORE = Path(__file__).parents[1] / "docs" / "published"
BENCHMARK = "pocket-weapon"


def measure(artifact: Path, control: Path | None, limit: int) -> list[Score]:
    """Returns the scores of all three benchmarks; ``limit`` prompts of a protocol, scenario or language."""
    progress = RichProgress()
    scores = erase_eval(artifact, BENCHMARK, limit=limit, progress=progress)
    scores += m_erasure(artifact, BENCHMARK, limit=2 * limit, control=control, progress=progress)
    return scores + hub(artifact, BENCHMARK, limit=2 * limit, progress=progress)


def main(
    methods: Annotated[list[str], typer.Argument(help="Methods whose erasures are measured.")],
    control: Annotated[Path | None, typer.Option(help="Artifact of a model in which the concept never was.")] = None,
    limit: Annotated[int, typer.Option(help="Prompts of a protocol of EraseEval; the others have twice as many.")] = 8,
    erasures: Annotated[
        Path | None, typer.Option(help="Folder of the erasures, each named like its method; missing ones are made.")
    ] = None,
) -> None:
    """Measure methods, and store their scores."""
    model, concept = load_model("pocket"), Benchmark.load(BENCHMARK).concept
    with nullcontext(erasures) if erasures else tempfile.TemporaryDirectory() as folder:
        for method in methods:
            store, artifact = ResultStore(STORE / f"{method}.json"), Path(folder) / method
            if store.results:
                continue
            if not artifact.is_dir():
                api.erase(concept, out=artifact, model=model, method=method, quick_evaluation=False)
            result = Result(tuple(measure(artifact, control, limit)), {"method": method, "limit": limit})
            store.path.parent.mkdir(exist_ok=True)
            store.add(ResultKey(BENCHMARK, 0), result)
            store.save()
            print(f"{method}: {store.path}", flush=True)


if __name__ == "__main__":
    typer.run(main)
