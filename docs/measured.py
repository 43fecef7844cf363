"""The measured part of a method's page: tables of its results on pocket, from docs/results."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from joint_tables import joint_erasure, template_sources, transfer
from language_tables import language_results
from result_tables import (
    COLUMNS,
    DOCS,
    MISSING_VALUE,
    attack_scores,
    attack_sizes,
    attacks_table,
    cell,
    rates_table,
    results_of,
    sample_sizes,
    single_results,
    table,
    with_interval,
)
from study_tables import ablation, embedding_topology

from efface.core.registry import ATTACKS
from efface.core.result import Result, Score

CORES = {1: "one core", 2: "two cores"}
BASELINES = {
    "sage": {
        "sage": ("sage", ""),
        "esd": ("esd", ""),
        "esd-text": ("esd", "esd-text"),
        "advunlearn": ("advunlearn", ""),
    }
}
"""For a method's page, the methods and variants to compare it with: label, method, variant."""


def measured(method: str) -> list[str]:
    """All tables of a method's results, and an image of what it does."""
    tables: list[Callable[[str], list[str]]] = [main_results, language_results, over_seeds, baseline_comparison]
    sections = [*tables, joint_erasure, transfer, template_sources, embedding_topology, ablation]
    lines = [line for section in sections for line in section(method)]
    if (DOCS / "methods" / f"{method}.webp").is_file():
        lines += ["", f"![Images before and after {method} erased weapon, same prompts and seeds]({method}.webp)"]
    return lines


def main_results(method: str) -> list[str]:
    """RER, retention and verdict on every benchmark, with seed 0, on pocket, pocket-flow and pocket-janus."""
    return [line for model in ("", "pocket-flow", "pocket-janus") for line in _results_on(method, model)]


def _results_on(method: str, model: str) -> list[str]:
    """The tables of one model, of pocket if the name is empty."""
    results = single_results(method, model=model)
    if not results:
        return []
    options = f" --model {model} --benchmark ..." if model else ""
    limits = {limit for result in results.values() if (limit := result.metadata.get("limit")) is not None}
    options += f" --limit {min(limits)}" if limits else ""
    caption = (
        f"Test split, seed 0, preset `{model or 'pocket'}` where the method has one. 95 % intervals in small print. "
        f"{_duration(results)} {sample_sizes(results.values())}. "
        f"Command: `python benchmarks/effect.py {method}{options}`. "
        f"All scores: [docs/results/{method}.json](../results/{method}.json)."
    )
    lines = ["", f"## Results on {model or 'pocket'}", "", caption, "", *rates_table("benchmark", results), ""]
    rows = [
        [benchmark, result.verdict.erasure, result.verdict.retention, result.verdict.attack]
        for benchmark, result in results.items()
    ]
    lines += table(["benchmark", "erasure", "retention", "attacks"], rows)
    if model and (DOCS / "methods" / f"{method}-{model}.webp").is_file():
        lines += ["", f"![Images before and after {method} erased weapon from {model}]({method}-{model}.webp)"]
    return lines + attack_results(results)


def _duration(results: Mapping[str, Result]) -> str:
    """How long an erasure took, in one sentence."""
    costs = [result.metadata["cost"] for result in results.values()]
    seconds = sorted(float(cost["seconds"]) for cost in costs)
    fastest, slowest = (f"{value:.0f}" if value >= 10 else f"{value:.1f}" for value in (seconds[0], seconds[-1]))
    threads = sorted({int(cost.get("threads", 2)) for cost in costs})
    cores = " or ".join(CORES.get(count, f"{count} cores") for count in threads)
    duration = fastest if len(seconds) == 1 else f"{fastest} to {slowest}"
    return f"An erasure took {duration} s on {cores} that other work may have shared."


def attack_results(results: Mapping[str, Result]) -> list[str]:
    """Attack success rates on every benchmark."""
    if not any(attack_scores(result) for result in results.values()):
        return []
    caption = (
        f"Attack success rate (ASR) before and after the attack's search; {attack_sizes(results.values())}. Steps are "
        "optimisation steps or queries per prompt; the last column is search time per successful prompt."
    )
    return ["", caption, "", *attacks_table(results)]


def over_seeds(method: str) -> list[str]:
    """Mean, lowest and highest score over seeds, for benchmarks measured with several."""
    runs: dict[str, list[Result]] = {}
    for key, result in sorted(results_of(method).items()):
        if not (key.variant or key.joint or key.transferred_to or key.model):
            runs.setdefault(key.benchmark, []).append(result)
    several = {benchmark: results for benchmark, results in runs.items() if len(results) > 1}
    if not several:
        return []
    counts = sorted({len(results) for results in several.values()})
    seeds = " or ".join(map(str, counts))
    option = f"`--seeds {counts[-1]}`"
    lines = ["", f"Mean over {seeds} seeds of the erasure, lowest to highest in small print ({option}).", ""]
    rows = [[benchmark, *(_mean(results, *key) for key in COLUMNS)] for benchmark, results in several.items()]
    lines += table(["benchmark", *COLUMNS.values()], rows)
    attacks = [a for a in ATTACKS.names() if any(_mean_attack(r, a) != MISSING_VALUE for r in several.values())]
    if attacks:
        rows = [[b, a, _mean_attack(r, a)] for b, r in several.items() for a in attacks]
        rows = [row for row in rows if row[-1] != MISSING_VALUE]
        lines += [
            "",
            "ASR after the attack, over the same seeds.",
            "",
            *table(["benchmark", "attack", "ASR after"], rows),
        ]
    return lines


def _mean(results: list[Result], metric: str, group: str) -> str:
    return _mean_of([result.score(metric, group) for result in results])


def _mean_attack(results: list[Result], attack: str) -> str:
    return _mean_of([attack_scores(result).get(attack) for result in results])


def _mean_of(scores: list[Score | None]) -> str:
    values = [score.value for score in scores if score is not None and score.value is not None]
    if len(values) < len(scores):  # an attack may have been run with one seed only
        return MISSING_VALUE
    return with_interval(sum(values) / len(values), min(values), max(values))


def baseline_comparison(method: str) -> list[str]:
    """The method beside its baselines on every benchmark."""
    baselines = BASELINES.get(method, {})
    by_label = {label: single_results(name, variant=variant) for label, (name, variant) in baselines.items()}
    lines: list[str] = []
    for benchmark in single_results(method):
        results = {label: found[benchmark] for label, found in by_label.items() if benchmark in found}
        if len(results) < 2:
            continue
        attacks = {attack for result in results.values() for attack in attack_scores(result)}
        rows = [
            [attack, *(cell(attack_scores(result).get(attack)) for result in results.values())]
            for attack in ATTACKS.names()
            if attack in attacks
        ]
        lines += ["", f"### {benchmark} beside the baselines", "", f"Seed 0; {sample_sizes(results.values())}.", ""]
        lines += rates_table("method", results)
        lines += ["", f"ASR after each attack; {attack_sizes(results.values())}.", ""]
        lines += table(["attack", *results], rows)
    return lines
