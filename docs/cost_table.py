"""Cost of a training step of every trained method, from benchmarks/perf/methods.json."""

from __future__ import annotations

import json

from result_tables import DOCS, table

from efface.core.registry import METHODS

NUMBERS = DOCS.parent / "benchmarks" / "perf" / "methods.json"
TEXT = (
    "CPU time of a training step and peak memory beyond the loaded model, on pocket with the preset `pocket`, relative "
    "to ESD ({seconds:.2f} s and {memory:.0f} MiB on one core of {machine}). "
    "Command: `python benchmarks/perf/methods.py`."
)


def cost_table() -> list[str]:
    """One row a method; without numbers of a method, none."""
    measured = json.loads(NUMBERS.read_text())
    rows, esd = measured["methods"], measured["methods"]["esd"]
    text = TEXT.format(seconds=esd["seconds_per_step"], memory=esd["peak_memory_mib"], machine=measured["machine"])
    cells = [
        [
            f"[{METHODS.card(name).title}](methods/{name}.md)",
            f"{row['relative_seconds_per_step']:.2f}",
            f"{row['relative_peak_memory']:.2f}",
            str(row["batch_size"]),
            str(row["steps"]),
        ]
        for name, row in rows.items()
        if name in METHODS.names()
    ]
    head = ["method", "time of a step", "peak memory", "samples per step", "steps"]
    return ["", "## Cost of a step", "", text, "", *table(head, cells)]
