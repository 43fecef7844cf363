"""Tables of a method's studies: position of prompts in the text encoder's space, and the ablation."""

from __future__ import annotations

import json
import sys

from result_tables import DOCS, MISSING_VALUE, RESULTS, table, with_interval

from efface.studies.ablation_table import Row, plot
from efface.studies.ablation_table import read as read_ablation

ABLATION_LABELS = {"rer": "RER", "asr_post": "ASR"}


def embedding_topology(method: str) -> list[str]:
    """Purity and distance of prompts in the text encoder's space (`efface topology`)."""
    lines: list[str] = []
    for path in sorted(RESULTS.glob(f"topology-{method}-*.json")):
        study = json.loads(path.read_text())
        rows = [
            [
                place["encoder"],
                place["group"],
                with_interval(*place["purity"]),
                with_interval(*place["distance"]),
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
        *_ablation_tables(rows),
        "",
        f"![Scores of every variant]({method}-ablation.svg)",
    ]


def _ablation_tables(rows: list[Row]) -> list[str]:
    """One table of erasure and attacks, one of retention; the settings are in the first."""
    names = list(rows[0].scores)
    retention = [name for name in names if name.startswith("retention/")]
    erasure = [name for name in names if name not in retention]
    first = [
        [row.variant, ", ".join(f"`{key}={value}`" for key, value in row.settings.items())]
        + [_score(row, name) for name in erasure]
        + [f"{row.seconds:.0f}"]
        for row in rows
    ]
    second = [[row.variant, *(_score(row, name) for name in retention)] for row in rows]
    return [
        *table(["variant", "settings", *map(_label, erasure), "seconds"], first),
        "",
        *table(["variant", *map(_label, retention)], second),
    ]


def _label(name: str) -> str:
    metric, group = name.split("/")
    return f"{ABLATION_LABELS.get(metric, metric)} {group}"


def _score(row: Row, name: str) -> str:
    values = row.scores[name]
    return MISSING_VALUE if values is None else with_interval(*values)
