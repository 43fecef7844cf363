"""The compact results of a sweep: one file for each method, as `efface.benchmarks.result_store` writes them.

The evaluation of an erasure and the attacks on it become one result with one verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from efface.benchmarks.result_join import is_same_erasure, join
from efface.benchmarks.result_store import ResultKey, ResultStore
from efface.core.erasure import Erasure
from efface.core.result import Result
from efface.models.model_ref import image_world

from .sweep_cell import Cell
from .sweep_folder import RESULT, SweepFolder


def write_results(folder: SweepFolder, cells: Sequence[Cell]) -> None:
    """Writes the results of all complete cells, joined to those that other grids left in the folder.

    An earlier result of the same erasure keeps its scores; one of another erasure under the same key is replaced.
    """
    stores: dict[str, ResultStore] = {}
    for cell in cells:
        if not folder.has_cell(cell):
            continue
        method = cell.run.method
        store = stores.setdefault(method, ResultStore(folder.results / f"{method}.json"))
        key = result_key(cell)
        own = [other for other in cells if other.run.hash == cell.run.hash and folder.has_cell(other)]
        if cell is own[0]:
            result, earlier = _merged(folder, own), store.results.get(key)
            store.add(key, join(result, earlier) if earlier and is_same_erasure(result, earlier) else result)
    for store in stores.values():
        store.save()


def result_key(cell: Cell) -> ResultKey:
    """Returns the key of a cell's erasure in the results."""
    variant = "" if cell.method.name == cell.run.method else cell.method.name
    model = "" if image_world(cell.run.model) == cell.run.model else cell.run.model
    return ResultKey(cell.benchmark_name, cell.run.seed, variant, model=model)


def _merged(folder: SweepFolder, cells: Sequence[Cell]) -> Result:
    """Joins the results of all cells of one erasure; the evaluation's metadata describe them."""
    ordered = sorted(cells, key=lambda cell: cell.attack is not None)
    results = [Result.load(folder.cell(cell) / RESULT) for cell in ordered]
    scores = {(score.metric, score.group): score for result in results for score in result.scores}
    run = ordered[0].run
    cost = Erasure.load(folder.erasure(run)).cost
    metadata = {"method": run.method, "overrides": ordered[0].method.settings, "root_seed": run.seed}
    metadata |= {"cost": cost and {"seconds": cost.seconds, "peak_memory_bytes": cost.peak_memory_bytes}}
    metadata |= {"attack_seconds": {c.attack_name: folder.seconds(c) for c in ordered if c.attack is not None}}
    return replace(results[0], scores=tuple(scores.values()), metadata={**results[0].metadata, **metadata})
