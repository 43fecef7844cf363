"""The table of attacks against an undefended erasure and a control, from docs/attacks.json (benchmarks/attacks.py)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from result_tables import DOCS, MISSING_VALUE, table, with_interval

from efface.core.registry import ATTACKS

CONTROL = "control"
HEAD = ["attack", "erasure", "before", "under attack", "control", "success"]

Scores = Mapping[str, Sequence[float]]
"""By metric its value, the bounds of its interval, and the number of images."""


def attack_rates() -> str:
    """One row for each attack: shares of images that show the concept, and the attack's success."""
    stored: list[dict[str, Any]] = json.loads((DOCS / "attacks.json").read_text(encoding="utf-8"))
    on_control = {row["attack"]: row["scores"] for row in stored if row["target"] == CONTROL}
    measured = [row for row in stored if row["target"] != CONTROL]
    rows = [
        _row(row["attack"], row["target"], row["scores"], on_control.get(row["attack"], {}))
        for row in sorted(measured, key=lambda row: (ATTACKS.card(row["attack"]).needs_control, row["attack"]))
    ]
    names = [name for name in ATTACKS.names() if "sd1" in ATTACKS.card(name).families]
    missing = [name for name in names if not any(row["attack"] == name for row in measured)]
    lines = ["Prompts of pocket-weapon. 95 % intervals in small print, with n where the control has another.", ""]
    lines += table(HEAD, rows)
    if missing:
        lines += ["", f"Not measured: {', '.join(f'`{name}`' for name in missing)}."]
    return "\n".join(lines)


def _row(attack: str, method: str, scores: Scores, control: Scores) -> list[str]:
    size = next(iter(scores.values()))[3]
    name = f"[{attack}](attacks/{attack}.md), {size} prompts"
    if ATTACKS.card(attack).needs_control:
        cells = ("asr_pre", "reproduction_rate", "reproduction_rate_control", "asr_post")
        return [name, method, *(_cell(scores.get(metric)) for metric in cells)]
    before, after, on_control = scores.get("asr_pre"), scores.get("asr_post"), control.get("asr_post")
    size_note = f" <sub>n = {on_control[3]}</sub>" if on_control and on_control[3] != size else ""
    return [name, method, _cell(before), _cell(after), f"{_cell(on_control)}{size_note}", _cell(after)]


def _cell(score: Sequence[float] | None) -> str:
    if score is None or score[0] is None:
        return MISSING_VALUE
    value, low, high, _ = score
    return with_interval(value, low, high)
