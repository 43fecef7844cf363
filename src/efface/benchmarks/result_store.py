"""Many results of one method in one compact JSON file: one score a line, detectors and provenances in shared tables.

    {"schema": 3, "columns": [...], "detectors": [...], "provenances": [...],
     "results": {"pocket-weapon/seed-0": {"scores": [[...], ...], ...}, ...}}

A score is a list of the values of the columns. It refers to its detector and provenance by their index in the tables.
Numbers have six decimals, far beyond what the number of images can tell apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efface.core.errors import EffaceError
from efface.core.io import atomic_write_text, read_json
from efface.core.result import Provenance, Result, Score, Thresholds
from efface.core.serialization import to_jsonable_dict

SCHEMA = 3
COLUMNS = ("metric", "group", "value", "low", "high", "n", "detector", "provenance")
DECIMALS = 6
_KEY_PARTS = {"seed": "seed", "variant": "variant", "model": "model", "joint": "joint", "on": "transferred_to"}


@dataclass(frozen=True, order=True)
class ResultKey:
    """Names one result of a method, as text such as ``pocket-weapon/seed-0/joint``.

    Attributes:
        benchmark: the benchmark's name.
        seed: root seed of the erasure.
        variant: name of a variant of the method's configuration; empty for the method itself.
        joint: whether the concepts of several benchmarks were erased at once.
        transferred_to: the model that the erasure was transferred to; empty for its own.
        model: the model that the concept was erased from; empty for the benchmark's own.
    """

    benchmark: str
    seed: int
    variant: str = ""
    joint: bool = False
    transferred_to: str = ""
    model: str = ""

    def __str__(self) -> str:
        parts = [self.benchmark, f"seed-{self.seed}"]
        parts += [f"variant-{self.variant}"] if self.variant else []
        parts += [f"model-{self.model}"] if self.model else []
        parts += ["joint"] if self.joint else []
        parts += [f"on-{self.transferred_to}"] if self.transferred_to else []
        return "/".join(parts)

    @classmethod
    def parse(cls, text: str) -> ResultKey:
        """The key that `str` wrote; raises `EffaceError` for other text."""
        benchmark, *parts = text.split("/")
        given: dict[str, Any] = {}
        for part in parts:
            kind, _, value = part.partition("-")
            name = _KEY_PARTS.get(kind)
            if name is None:
                raise EffaceError(f"{text!r} is not the name of a result: {part!r} is unknown")
            given[name] = True if name == "joint" else value
        try:
            return cls(benchmark, **{**given, "seed": int(given["seed"])})
        except (KeyError, ValueError) as error:
            raise EffaceError(f"{text!r} is not the name of a result: it needs a seed such as seed-0") from error


class ResultStore:
    """The results of one method in a file; nothing is written before `save`.

    Args:
        path: the file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results: dict[ResultKey, Result] = dict(_read(path)) if path.is_file() else {}

    def add(self, key: ResultKey, result: Result) -> None:
        """Add a result, in place of an earlier one with this key."""
        self.results[key] = result

    def save(self) -> None:
        """Write the file atomically, with the results in the order of their keys."""
        detectors, provenances = _Table(), _Table()
        entries = []
        for key in sorted(self.results):
            result = self.results[key]
            scores = ",\n".join(f"   {_line(_row(score, detectors, provenances))}" for score in result.scores)
            entries.append(
                f" {_line(str(key))}: {{\n"
                f'  "verdict": {_line(result.summary())},\n'
                f'  "metadata": {_line(to_jsonable_dict(result.metadata))},\n'
                f'  "thresholds": {_line(to_jsonable_dict(result.thresholds))},\n'
                f'  "scores": [\n{scores}\n  ]\n }}'
            )
        results = ",\n".join(entries)
        text = (
            f'{{\n"schema": {SCHEMA},\n"columns": {_line(COLUMNS)},\n'
            f'"detectors": {detectors},\n"provenances": {provenances},\n'
            f'"results": {{\n{results}\n}}\n}}\n'
        )
        atomic_write_text(self.path, text)


class _Table:
    """Distinct JSON values, one a line, and their indices."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}

    def add(self, value: Mapping[str, Any]) -> int:
        return self._index.setdefault(_line(value), len(self._index))

    def __str__(self) -> str:
        return "[\n" + ",\n".join(f" {line}" for line in self._index) + "\n]"


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _row(score: Score, detectors: _Table, provenances: _Table) -> list[Any]:
    row = score.to_dict()
    if row["detector"] is not None:
        row["detector"] = detectors.add(row["detector"])
    given = {name: value for name, value in row["provenance"].items() if value not in (None, "", {})}
    row["provenance"] = provenances.add(given)
    return [round(row[name], DECIMALS) if isinstance(row[name], float) else row[name] for name in COLUMNS]


def _read(path: Path) -> Iterator[tuple[ResultKey, Result]]:
    data = read_json(path)
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise EffaceError(f"{path} is not a collection of results of schema version {SCHEMA}")
    empty = Provenance().to_dict()
    provenances = [{**empty, **row} for row in data["provenances"]]  # empty fields are left out of the file
    for name, entry in data["results"].items():
        scores = []
        for values in entry["scores"]:
            row = dict(zip(data["columns"], values, strict=True))
            row["detector"] = None if row["detector"] is None else data["detectors"][row["detector"]]
            row["provenance"] = provenances[row["provenance"]]
            scores.append(Score.from_dict(row))
        yield ResultKey.parse(name), Result(tuple(scores), entry["metadata"], Thresholds(**entry["thresholds"]))
