"""Add the results of sweeps to the matrix: ``python benchmarks/merge_matrix.py SWEEP ...``.

A sweep of part of the grid has part of an erasure's cells. Its scores join those that docs/matrix has of the same
erasure; of two scores of one metric and group that of more images stays, or else the sweep's. `docs/generate.py`
writes the tables.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from efface.benchmarks.result_join import is_same_erasure, join
from efface.benchmarks.result_store import ResultStore

MATRIX = Path(__file__).parents[1] / "docs" / "matrix"


def main(sweeps: Annotated[list[Path], typer.Argument(help="Folders of sweeps.")]) -> None:
    """Merge the results of sweeps into docs/matrix."""
    for path in (path for sweep in sweeps for path in sorted((sweep / "results").glob("*.json"))):
        store = ResultStore(MATRIX / path.name)
        for key, result in ResultStore(path).results.items():
            old = store.results.get(key)
            if old and not is_same_erasure(result, old):
                raise SystemExit(
                    f"{MATRIX / path.name} has {key} of another erasure: remove it there, or measure again"
                )
            store.add(key, join(result, old) if old else result)
        store.save()
        print(f"{path.stem}: {len(store.results)} results")


if __name__ == "__main__":
    typer.run(main)
