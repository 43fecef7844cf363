"""Tables of the methods for classifiers on pocket-classifier, from docs/results/classifiers."""

from __future__ import annotations

from pathlib import Path

from result_tables import table

from efface.core.result import Result, Score

RESULTS = Path(__file__).parent / "results" / "classifiers"
BENCHMARKS = {
    "pocket-classifier-cat": "Forget a class: cat",
    "pocket-classifier-weapon": "Forget seven classes: weapon",
    "pocket-classifier-mosaic": "Forget a style: mosaic",
    "pocket-classifier-owner": "Forget 58 images: owner 7",
}
VARIANTS = {
    "retrain": "retraining",
    "famr": "`famr`",
    "famr-l2": "`famr`, anchor=l2, target=uniform",
    "famr-all": "`famr`, all weights, L-BFGS",
    "salun": "`salun`",
    "fine_tuning": "`fine_tuning`",
}
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
        results = {v: Result.load(p) for v in VARIANTS if (p := RESULTS / name / f"{v}.json").is_file()}
        if not results:
            continue
        first = next(iter(results.values()))
        sizes = [f"{score.n} ({group})" for metric, group in ACCURACY if (score := first.score(metric, group))]
        lines += ["", f"### {title}", "", f"n = {', '.join(sizes)}.", ""]
        head = ["method", "accuracy test", "accuracy training", "retention near", "retention other"]
        lines += table(head, [[VARIANTS[v], *(_cell(r.score(*key)) for key in ACCURACY)] for v, r in results.items()])
        head = ["method", "distance, concept", "distance, other", "membership", "relearning steps", "time"]
        lines += ["", *table(head, [[VARIANTS[v], *_others(v, r)] for v, r in results.items()])]
    return ["", "## Measured", *lines] if lines else []


def _others(variant: str, result: Result) -> list[str]:
    cells = [_cell(result.score(*key)) for key in OTHERS]
    return [*cells[:-1], "1" if variant == "retrain" else cells[-1]]


def _cell(score: Score | None) -> str:
    """A value with its interval if there is one; a dash where nothing was measured."""
    if score is None or score.value is None:
        return "\N{EN DASH}"
    if score.metric == "relearning_steps":
        return f"{score.value:.0f}"
    if score.metric == "time_share_of_retraining":
        return f"{score.value:.3f}"
    interval = "" if score.low is None else f" <sub>{score.low:.2f} to {score.high:.2f}</sub>"
    return f"{score.value:.2f}{interval}"
