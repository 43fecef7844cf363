"""Comparison of the methods that were measured on four concepts: a table and a chart for the page which_method_when."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from statistics import harmonic_mean, mean, median

from result_tables import DOCS, table

from efface.benchmarks.result_store import ResultKey
from efface.core.method_card import MethodCard
from efface.core.registry import METHODS
from efface.core.result import Result
from efface.reporting.leaderboard import read_results
from efface.studies.plots import Series, interval_plot

BENCHMARKS = ("pocket-animal", "pocket-santa", "pocket-style", "pocket-weapon")
COLUMNS: dict[str, tuple[str, str]] = {
    "name erased": ("rer", "name"),
    "domain erased": ("rer", "domain"),
    "near kept": ("retention", "near"),
    "other kept": ("retention", "other"),
}
WITHSTOOD = "synonyms withstood"
CHART_TITLE = "Mean of four concepts on pocket; the line reaches from the worst to the best of them"
UNITS = ((3600.0, "h"), (60.0, "min"), (0.0, "s"))


def measured_methods() -> dict[str, dict[str, Result]]:
    """Results on all four benchmarks by method; the best balance of erased and kept comes first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where the matrix has another version's erasure, docs/results come first
        found = read_results([DOCS / "results", DOCS / "matrix"])
    complete = {}
    for name in METHODS.names():
        results = {b: found[name][key] for b in BENCHMARKS if (key := ResultKey(b, 0)) in found.get(name, {})}
        if len(results) == len(BENCHMARKS) and all(r.score(*COLUMNS["name erased"]) for r in results.values()):
            complete[name] = results
    return dict(sorted(complete.items(), key=lambda item: -_balance(item[1])))


def _balance(results: Mapping[str, Result]) -> float:
    """Harmonic mean of what is erased and what is kept."""
    erased, kept = ("name erased", "domain erased"), ("near kept", "other kept")
    halves = [mean(mean(_values(results, column)) for column in columns) for columns in (erased, kept)]
    return harmonic_mean([max(half, 0.0) for half in halves])


def _values(results: Mapping[str, Result], column: str) -> list[float]:
    """A column's values on the four benchmarks, each between 0 and 1."""
    key = ("asr_post", "synonyms") if column == WITHSTOOD else COLUMNS[column]
    values = []
    for benchmark in BENCHMARKS:
        score = results[benchmark].score(*key)
        if score is not None and score.value is not None:
            values.append(min(max(score.value, 0.0), 1.0))
    return [1 - value for value in values] if column == WITHSTOOD else values


def choice_table() -> str:
    """One row a method: erased, kept, duration, what it trains, and the kinds of model it takes."""
    measured = measured_methods()
    rows = [[_link(METHODS.card(name)), *_cells(name, results)] for name, results in measured.items()]
    others = [_link(METHODS.card(name)) for name in METHODS.names() if name not in measured]
    head = ["method", "erased", "kept", "time on pocket", "trains", "models"]
    caption = f"Not measured on all four concepts, or for other kinds of model: {', '.join(others)}."
    return "\n".join([*table(head, rows), "", caption])


def _cells(name: str, results: Mapping[str, Result]) -> list[str]:
    card = METHODS.card(name)
    erased, kept = (
        " / ".join(f"{mean(_values(results, column)):.2f}" for column in COLUMNS if column.endswith(end))
        for end in ("erased", "kept")
    )
    seconds = median(float(results[b].metadata["cost"]["seconds"]) for b in BENCHMARKS)
    return [erased, kept, _duration(seconds), card.trains or "nothing", ", ".join(card.families)]


def _duration(seconds: float) -> str:
    size, unit = next((size, unit) for size, unit in UNITS if seconds >= size)
    return f"{seconds / (size or 1):.2g} {unit}"


def _link(card: MethodCard) -> str:
    return f"[{card.title}](methods/{card.name}.md)"


def choice_chart() -> str:
    """An SVG chart of the same methods: a panel for each column, and one for the synonyms attack."""
    methods = measured_methods()
    series = [
        Series(column, [_span(_values(results, column)) for results in methods.values()])
        for column in (*COLUMNS, WITHSTOOD)
    ]
    return interval_plot(CHART_TITLE, [METHODS.card(name).title for name in methods], series)


def _span(values: list[float]) -> tuple[float, float, float] | None:
    """Mean and range of the four values; None if one is missing."""
    return (mean(values), min(values), max(values)) if len(values) == len(BENCHMARKS) else None


CHARTS: dict[str, Callable[[], str]] = {"which_method_when.svg": choice_chart}
"""By file in docs/, the function that writes it."""
