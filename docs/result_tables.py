"""Results as Markdown tables of at most six columns; every number is in docs/results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from efface.benchmarks.result_store import ResultKey, ResultStore
from efface.core.registry import ATTACKS
from efface.core.result import Result, Score
from efface.core.verdict_rules import LIMIT

DOCS = Path(__file__).parent
RESULTS = DOCS / "results"
COLUMNS = {
    ("rer", "name"): "RER name",
    ("rer", "domain"): "RER domain",
    ("retention", "near"): "retention near",
    ("retention", "other"): "retention other",
    ("retention", "context"): "retention context",
}
MISSING_VALUE = "-"
SENSES = "pocket-abstract-"
"""Start of the names of benchmarks whose results have a table of their own (docs/published_benchmarks.md)."""


@cache
def results_of(method: str) -> dict[ResultKey, Result]:
    """All results of a method; empty where none was measured."""
    return ResultStore(RESULTS / f"{method}.json").results


def single_results(method: str, seed: int = 0, variant: str = "", model: str = "") -> dict[str, Result]:
    """Results of erasing one concept with one seed, by benchmark; an empty model is the benchmark's own."""
    results = results_of(method)
    keys = {
        key.benchmark: key
        for key in sorted(results)
        if key == ResultKey(key.benchmark, seed, variant, model=model) and not key.benchmark.startswith(SENSES)
    }
    return {benchmark: results[key] for benchmark, key in keys.items()}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def span(counts: Sequence[int]) -> str:
    """Ascending numbers in words, such as ``32 to 144``."""
    return f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"


def cell(score: Score | None) -> str:
    """A score to two digits, its 95 % interval in small print; a dash where it has no value."""
    if score is None or score.value is None:
        return MISSING_VALUE
    if score.low is None or score.high is None:
        return f"{score.value:.2f}"
    return with_interval(score.value, score.low, score.high)


def with_interval(value: float, low: float, high: float) -> str:
    """A value with its interval, or range, in small print."""
    return f"{value:.2f} <sub>{low:.2f} to {high:.2f}</sub>"


def rates_table(first_column: str, results: Mapping[str, Result]) -> list[str]:
    """RER and retention: one row a result."""
    rows = [[name, *(cell(result.score(*key)) for key in COLUMNS)] for name, result in results.items()]
    return table([first_column, *COLUMNS.values()], rows)


def sample_sizes(results: Iterable[Result]) -> str:
    """The numbers of images behind the columns, such as ``n = 144 (name), 96 to 120 (near)``."""
    counts: dict[str, list[int]] = {group: [] for _, group in COLUMNS}
    for result in results:
        for metric, group in COLUMNS:
            score = result.score(metric, group)
            counts[group] += [score.n] if score is not None else []
    spans = [f"{_span(values)} ({group})" for group, values in counts.items() if values]
    return f"n = {', '.join(spans)}"


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def attack_scores(result: Result, metric: str = "asr_post") -> dict[str, Score]:
    """A score of every attack that was run, in the attacks' order."""
    scores = result.attack_scores(metric)
    return {name: scores[name] for name in ATTACKS.names() if name in scores and scores[name].value is not None}


def attacks_table(results: Mapping[str, Result]) -> list[str]:
    """Attack success rates by benchmark and attack, with the search's budget."""
    rows = []
    for benchmark, result in results.items():
        costs, before = result.attack_scores("seconds_per_success"), attack_scores(result, "asr_pre")
        for attack, score in attack_scores(result).items():
            steps = score.provenance.attack_steps
            budget = [str(steps), _seconds(costs.get(attack))] if steps else ["no search", MISSING_VALUE]
            prompts = f"{attack}, {score.n} prompts" if LIMIT in score.provenance.extra else attack
            rows.append([benchmark, prompts, cell(before.get(attack)), cell(score), *budget])
    return table(["benchmark", "attack", "ASR before", "ASR after", "steps", "seconds per success"], rows)


def _seconds(cost: Score | None) -> str:
    if cost is None or cost.value is None:
        return "no success"
    return f"{cost.value:.0f}" if cost.value >= 10 else f"{cost.value:.2g}"


def attack_sizes(results: Iterable[Result]) -> str:
    """The numbers of prompts behind the attacks' rates, such as ``n = 32 to 144 prompts``."""
    counts = [score.n for result in results for score in attack_scores(result).values()]
    return f"n = {_span(counts)} prompts"
