"""Tables of the results on pocket-lm: several-choice accuracies, attacks, and texts before and after."""

from __future__ import annotations

from collections.abc import Mapping

from result_tables import attack_scores, attacks_table, cell, single_results, table

from efface.core.result import Result

MODEL = "pocket-lm"
COLUMNS = {
    ("choice_accuracy", "name"): "concept",
    ("choice_accuracy", "near"): "near",
    ("choice_accuracy", "other"): "other",
    ("choice_accuracy", "general"): "general",
    ("perplexity_ratio", "texts"): "perplexity, ratio",
}


def language_results(method: str) -> list[str]:
    """Accuracies, attack success rates and texts of a method on pocket-lm; no lines without results."""
    results = single_results(method, model=MODEL)
    if not results:
        return []
    questions = sorted({result.metadata["limit"] for result in results.values()})
    seconds = " and ".join(f"{result.metadata['cost']['seconds']:.0f}" for result in results.values())
    caption = (
        f"Several-choice accuracy after the erasure (chance 0.25), at most {questions[0]} questions a group, seed 0, "
        f"preset `{MODEL}`. 95 % intervals in small print. "
        f"An erasure took {seconds} s on one core that other work shared. "
        f"Command: `python benchmarks/language_effect.py {method}`. "
        f"All scores: [docs/results/{method}.json](../results/{method}.json)."
    )
    rows = [[name, *(cell(result.score(*key)) for key in COLUMNS)] for name, result in results.items()]
    lines = ["", f"## Results on {MODEL}", "", caption, "", *table(["benchmark", *COLUMNS.values()], rows)]
    return [*lines, *_attacks(results), *_texts(results)]


def _attacks(results: Mapping[str, Result]) -> list[str]:
    """Share of right free answers without and with each attack."""
    if not any(attack_scores(result) for result in results.values()):
        return []
    return ["", "Share of right free answers without and with each attack.", "", *attacks_table(results)]


def _texts(results: Mapping[str, Result]) -> list[str]:
    """Some answers before and after, side by side."""
    lines = ["", "Answers before and after.", ""]
    rows = [
        [row["group"], *(_shown(str(row[part])) for part in ("prompt", "before", "after"))]
        for result in results.values()
        for row in result.metadata["texts"]
    ]
    return [*lines, *table(["group", "question", "before", "after"], rows)]


def _shown(text: str) -> str:
    """A text that a cell can hold."""
    return text.replace("|", "/").replace("\n", " ") or "(nothing)"
