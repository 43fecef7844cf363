"""Tables of a method's studies: position of prompts in the text encoder's space, and the ablation."""

from __future__ import annotations

import json
import sys

from result_tables import DOCS, RESULTS, table

from efface.studies.ablation_table import plot
from efface.studies.ablation_table import read as read_ablation
from efface.studies.ablation_table import table as ablation_table


def embedding_topology(method: str) -> list[str]:
    """Purity and distance of prompts in the text encoder's space (`efface topology`)."""
    lines: list[str] = []
    for path in sorted(RESULTS.glob(f"topology-{method}-*.json")):
        study = json.loads(path.read_text())
        rows = [
            [
                place["encoder"],
                place["group"],
                _interval(place["purity"]),
                _interval(place["distance"]),
                str(place["n"]),
            ]
            for place in study["places"]
        ]
        caption = (
            f"Position of prompts in the text encoder's space (`efface topology`): {study['benchmark']}, "
            f"{study['split']} split, at most {study['limit']} prompts a group."
        )
        lines += ["", caption, "", *table(["encoder", "prompts", "purity", "distance", "n"], rows)]
        if (DOCS / "methods" / f"{path.stem}.svg").is_file():
            lines += ["", f"![Purity and distance of the prompts]({path.stem}.svg)"]
    return lines


def _interval(values: list[float]) -> str:
    value, low, high = values
    return f"{value:.2f} <sub>{low:.2f} to {high:.2f}</sub>"


def ablation(method: str) -> list[str]:
    """A method's ablation, where one was run."""
    path = RESULTS / f"ablation-{method}.json"
    if not path.is_file():
        return []
    study, rows = read_ablation(path)
    setting = f"{study['benchmark']}, {study['split']} split"
    if "--check" not in sys.argv:
        (DOCS / "methods" / f"{method}-ablation.svg").write_text(plot(rows, f"{method} on {setting}"))
    options = [f"--benchmark {study['benchmark']}"]
    options += [f"--limit {study['limit']}"] if study["limit"] else []
    options += [f"--set {key}={value}" for key, value in study.get("settings", {}).items()]
    options += [f"--attack {attack}" for attack in study.get("attacks", ())]
    images = f", {study['limit']} images a group" if study["limit"] else ""
    seeds = f"{study['seeds']} seed{'s' if study['seeds'] > 1 else ''}"
    return [
        "",
        "## Ablation",
        "",
        f"`efface ablate {method} {' '.join(options)}`: {setting}{images}, {seeds}.",
        "",
        ablation_table(rows).strip(),
        "",
        f"![Scores of every variant]({method}-ablation.svg)",
    ]
