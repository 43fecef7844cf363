"""The tables of the matrix: attack success rates of each method by benchmark, from docs/matrix (`efface sweep`).

RER that a sweep did not measure comes from docs/results if these are of the same erasure.
"""

from __future__ import annotations

from collections.abc import Sequence

from result_tables import DOCS, cell, results_of, span, table

from efface.benchmarks.result_join import is_same_erasure
from efface.benchmarks.result_store import ResultKey, ResultStore
from efface.core.attack_label import attack_of
from efface.core.registry import ATTACKS
from efface.core.result import Result
from efface.reporting.leaderboard import ERASED

Results = dict[str, dict[str, Result]]
"""By benchmark and method."""


def read_matrix() -> Results:
    """Returns the results of docs/matrix."""
    results: Results = {}
    for path in sorted((DOCS / "matrix").glob("*.json")):
        for key, result in ResultStore(path).results.items():
            results.setdefault(key.benchmark, {})[path.stem] = result
    return results


def matrix_tables() -> str:
    """One table for each benchmark: RER and attack success rates."""
    results = read_matrix()
    if not results:
        return "No cell is measured yet."
    return "\n".join(line for benchmark, rows in sorted(results.items()) for line in _table(benchmark, rows))


def _table(benchmark: str, results: dict[str, Result]) -> Sequence[str]:
    measured = {method: evaluation_of(benchmark, method, result) for method, result in results.items()}
    scores = [score for r in results.values() for score in r.attack_scores().values() if score.value is not None]
    attacks = [name for name in ATTACKS.names() if any(attack_of(score.group) == name for score in scores)]
    rows = []
    for method, result in results.items():
        rates = result.attack_scores()
        cells = [cell(measured[method].score(*key)) for key in ERASED]
        rows.append([f"[{method}](methods/{method}.md)", *cells, *(cell(rates.get(name)) for name in attacks)])
    counts = sorted({score.n for score in scores})
    images = sorted({score.n for result in measured.values() if (score := result.score(*ERASED[0]))})
    sizes = f"n = {span(counts)} prompts of an attack" + (f", {span(images)} images for each RER." if images else ".")
    head = ["method", "RER name", "RER domain", *attacks]
    return ["", f"## {benchmark}", "", sizes, "", *table(head, rows)]


def evaluation_of(benchmark: str, method: str, result: Result) -> Result:
    """Returns the result itself if it has an evaluation, else the method's own, if there is one."""
    if result.score(*ERASED[0]):
        return result
    other = results_of(method).get(ResultKey(benchmark, 0), result)
    return other if is_same_erasure(result, other) else result
