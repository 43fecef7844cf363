"""Tables of the methods for classifiers on pocket-classifier, from docs/results."""

from __future__ import annotations

from result_tables import cell, single_results, table

from efface.core.result import Result, Score

MODEL = "pocket-classifier"
BENCHMARKS = {
    "pocket-classifier-cat": "Forget a class: cat",
    "pocket-classifier-weapon": "Forget seven classes: weapon",
    "pocket-classifier-mosaic": "Forget a style: mosaic",
    "pocket-classifier-owner": "Forget 58 images: owner 7",
}
VARIANTS = {
    ("retrain", ""): "retraining",
    ("famr", ""): "`famr`",
    ("famr", "l2"): "`famr`, anchor=l2, target=uniform",
    ("famr", "all"): "`famr`, all weights, L-BFGS",
    ("salun", ""): "`salun`",
    ("fine_tuning", ""): "`fine_tuning`",
}
"""What a table calls a method and the variant of its configuration."""
ACCURACY = [("accuracy", "name"), ("accuracy", "domain"), ("retention", "near"), ("retention", "other")]
OTHERS = [
    ("distance_to_retrained", "name"),
    ("distance_to_retrained", "other"),
    ("membership_entropy", "domain"),
    ("relearning_steps", "relearning_images"),
    ("time_share_of_retraining", "all"),
]


def classifier_tables() -> list[str]:
    """Two tables for every benchmark: accuracy; distance to retraining, membership, relearning and time."""
    lines = []
    for name, title in BENCHMARKS.items():
        found = {
            shown: single_results(method, variant=variant, model=MODEL).get(name)
            for (method, variant), shown in VARIANTS.items()
        }
        results = {shown: result for shown, result in found.items() if result is not None}
        if not results:
            continue
        first = next(iter(results.values()))
        sizes = [f"{score.n} ({group})" for metric, group in ACCURACY if (score := first.score(metric, group))]
        lines += ["", f"### {title}", "", f"n = {', '.join(sizes)}.", ""]
        head = ["method", "accuracy test", "accuracy training", "retention near", "retention other"]
        lines += table(head, [[shown, *(_cell(r.score(*key)) for key in ACCURACY)] for shown, r in results.items()])
        head = ["method", "distance, concept", "distance, other", "membership", "relearning steps", "time"]
        lines += ["", *table(head, [[shown, *_others(shown, r)] for shown, r in results.items()])]
    return ["", "## Measured", *lines] if lines else []


def _others(shown: str, result: Result) -> list[str]:
    cells = [_cell(result.score(*key)) for key in OTHERS]
    return [*cells[:-1], "1" if shown == VARIANTS["retrain", ""] else cells[-1]]


def _cell(score: Score | None) -> str:
    """A value with its interval if there is one; a dash where nothing was measured."""
    if score is None or score.value is None:
        return "\N{EN DASH}"
    if score.metric == "relearning_steps":
        return f"{score.value:.0f}"
    if score.metric == "time_share_of_retraining":
        return f"{score.value:.3f}"
    return cell(score)
