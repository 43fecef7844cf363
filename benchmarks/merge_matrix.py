"""Add the results of sweeps to the matrix: ``python benchmarks/merge_matrix.py SWEEP ...``.

A sweep of part of the grid has part of an erasure's cells. Its scores join those that docs/matrix has of the same run:
a score of the sweep replaces the one of the same metric and group. `docs/generate.py` writes the tables.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from efface.benchmarks.result_store import ResultStore
from efface.core.result import Result

MATRIX = Path(__file__).parents[1] / "docs" / "matrix"
SAME = ("erasure_hash", "benchmark", "sampler", "model")
"""Metadata in which two results of one matrix must agree."""
LIMITS = ("num_images", "limit", "num_excluded", "seed")
"""Metadata of an evaluation."""


def merge(old: Result, new: Result) -> Result:
    """Returns one result with the scores of both.

    Raises:
        SystemExit: they are of different runs.
    """
    for name in SAME:
        if old.metadata.get(name) != new.metadata.get(name):
            raise SystemExit(f"{name} differs: {old.metadata.get(name)} and {new.metadata.get(name)}; remove one result")
    scores = {(score.metric, score.group): score for result in (old, new) for score in result.scores}
    evaluated = {name: result.metadata[name] for result in (old, new) for name in LIMITS if name in result.metadata}
    seconds = {**old.metadata["attack_seconds"], **new.metadata["attack_seconds"]}
    metadata = {**new.metadata, **evaluated, "attack_seconds": seconds}
    return replace(new, scores=tuple(scores.values()), metadata=metadata)


def main(sweeps: Annotated[list[Path], typer.Argument(help="Folders of sweeps.")]) -> None:
    """Merge the results of sweeps into docs/matrix."""
    for path in (path for sweep in sweeps for path in sorted((sweep / "results").glob("*.json"))):
        store = ResultStore(MATRIX / path.name)
        for key, result in ResultStore(path).results.items():
            old = store.results.get(key)
            store.add(key, merge(old, result) if old else result)
        store.save()
        print(f"{path.stem}: {len(store.results)} results")


if __name__ == "__main__":
    typer.run(main)
