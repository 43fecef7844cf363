"""Tables of a language model's answers before and after an erasure, from ``texts.json`` in the evidence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efface.core.errors import CorruptArtifactError
from efface.core.evaluation_evidence import ATTACKS
from efface.core.io import read_json
from efface.core.manifest import EFFECT_CHECK, TEXTS

MAX_ATTACK_ROWS = 12


@dataclass(frozen=True)
class TextRow:
    """The answers to one prompt.

    Attributes:
        group: Group of the benchmark, label of an attack, or concept or retained.
        prompt: Prompt.
        before: Answer before.
        after: Answer after.
        expected: Accepted answer; empty if there is none.
        right_after: Whether the answer after is accepted; None if it was not judged.
    """

    group: str
    prompt: str
    before: str
    after: str
    expected: str = ""
    right_after: bool | None = None


@dataclass(frozen=True)
class TextTable:
    """The rows of one folder of the evidence, with a title and the headings of the two answers."""

    title: str
    first: str
    second: str
    rows: tuple[TextRow, ...]


def load_text_tables(evidence: Path) -> tuple[TextTable, ...]:
    """Loads all texts: of evaluations, of attacks and of the effect check, in this order."""
    evaluations = sorted(path for path in evidence.glob(f"*/{TEXTS}") if path.parent.name != EFFECT_CHECK)
    attacks = sorted((evidence / ATTACKS).glob(f"*/{TEXTS}"))
    effect = [path for path in (evidence / EFFECT_CHECK / TEXTS,) if path.is_file()]
    tables = [_table(path, f"Evaluation {path.parent.name}", "before", "after") for path in evaluations]
    for path in attacks:
        table = _table(path, f"Attack {path.parent.name}", "without attack", "under attack")
        tables.append(TextTable(table.title, table.first, table.second, table.rows[:MAX_ATTACK_ROWS]))
    return (*tables, *(_table(path, "Effect check", "before", "after") for path in effect))


def _table(path: Path, title: str, first: str, second: str) -> TextTable:
    data = read_json(path)
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise CorruptArtifactError(f"{path} is not as efface writes it: make it again, or remove its folder")
    return TextTable(title, first, second, tuple(map(_row, data)))


def _row(row: dict[str, Any]) -> TextRow:
    right = row.get("right_after")
    texts = {name: str(row.get(name, "")) for name in ("group", "prompt", "before", "after", "expected")}
    return TextRow(**texts, right_after=right if isinstance(right, bool) else None)
