"""The leaderboard's boards: one for each kind of model, because their scores mean different things."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from efface.benchmarks.result_store import ResultKey
from efface.core.result import Result

from .formatting import format_number
from .leaderboard import ALL, ATTACKS_OF_KIND, Entry, pareto_front, sortable
from .plain_words import is_of_language

NOUNS = {"image models": "images", "language models": "answers", "image classifiers": "images"}
"""Kinds of models in their order, with what their scores count."""
LABEL_SIZE = (30.0, 5.0)
"""Width and height of a label, in per cent of a chart."""


@dataclass(frozen=True)
class Point:
    """A method in a chart; positions in per cent of the axes, from the left and from the top.

    Attributes:
        name: the method.
        x: position from the left.
        y: position from the top.
        text: the values in words.
        on_front: whether no method is better in both directions.
        label_left: whether the label is left of the point.
        lines_down: number of lines by which the label is lower than the point, clear of other labels.
    """

    name: str
    x: float
    y: float
    text: str
    on_front: bool
    label_left: bool
    lines_down: int = 0


@dataclass(frozen=True)
class Board:
    """All methods of one kind of model.

    Attributes:
        kind: kind of model.
        noun: what its scores count.
        rows: rows of the table.
        attacks: names of the attacks that were run; those that a score needs come first.
        benchmarks: names of the benchmarks, the average first.
        shown: the benchmark that is shown first and in the charts: that on which most methods have a score, of several
            that with most attack success rates.
        charts: heading, field of the horizontal axis and points of each Pareto chart.
        multiples: rows of the shown benchmark with each attack, by attack.
        scored: attacks that a score needs.
    """

    kind: str
    noun: str
    rows: Sequence[Entry]
    attacks: Sequence[str]
    benchmarks: Sequence[str]
    shown: str
    charts: Sequence[tuple[str, str, list[Point]]]
    multiples: Sequence[tuple[str, list[Entry]]]
    scored: Sequence[str]


def boards(rows: Sequence[Entry], results: Mapping[str, Mapping[ResultKey, Result]]) -> list[Board]:
    """Returns a board for each kind of model that has results."""
    kinds = {method: kind_of(by_key.values()) for method, by_key in results.items()}
    own = {kind: [row for row in rows if kinds[row.method] == kind] for kind in NOUNS}
    return [_board(kind, kind_rows) for kind, kind_rows in own.items() if kind_rows]


def kind_of(results: Iterable[Result]) -> str:
    """Returns the kind of model that a method's results are about, by their metrics."""
    first = next(iter(results))
    if is_of_language(first):
        return "language models"
    return "image classifiers" if any(score.metric == "accuracy" for score in first.scores) else "image models"


def _board(kind: str, rows: Sequence[Entry]) -> Board:
    benchmarks = [ALL, *sorted({row.benchmark for row in rows} - {ALL})]
    shown = max(benchmarks, key=lambda name: _num_scores([row for row in rows if row.benchmark == name]))
    own, needed = [row for row in rows if row.benchmark == shown], ATTACKS_OF_KIND[kind]
    attacks = sorted({attack for row in rows for attack in row.attacks}, key=lambda name: (name not in needed, name))
    charts = [
        ("Erased against kept", "erased", _points(own, "erased")),
        ("Robust against kept", "robust", _points([row for row in own if row.score is not None], "robust")),
    ]
    multiples = [
        (attack, with_attack) for attack in attacks if (with_attack := [r for r in own if attack in r.attacks])
    ]
    by_score = sorted(rows, key=lambda row: (row.benchmark == shown, sortable(row.score)), reverse=True)
    return Board(kind, NOUNS[kind], by_score, attacks, benchmarks, shown, charts, multiples, needed)


def _num_scores(rows: Sequence[Entry]) -> tuple[int, int]:
    """Returns the number of scores, and of attack success rates."""
    return sum(row.score is not None for row in rows), sum(len(row.attacks) for row in rows)


def _points(rows: Sequence[Entry], field: str) -> list[Point]:
    known = [(row, getattr(row, field), row.kept) for row in rows]
    places = [(row, x, y) for row, x, y in known if x is not None and y is not None]
    front = set(pareto_front([(x, y) for _, x, y in places]))
    points = [
        Point(
            row.method,
            round(100 * x, 2),
            round(100 * (1 - y), 2),
            f"{row.method}: {field} {format_number(x)}, kept {format_number(y)}",
            i in front,
            x > 0.7,
        )
        for i, (row, x, y) in enumerate(places)
    ]
    return _with_clear_labels(points)


def _with_clear_labels(points: Sequence[Point]) -> list[Point]:
    """Lowers the labels of the front's points that would cover another one or that of the untouched model."""
    width, height = LABEL_SIZE
    labels, lines_down = [(0.0, 0.0)], dict[str, int]()
    for point in sorted((point for point in points if point.on_front), key=lambda point: point.y):
        near = [y for x, y in labels if abs(x - point.x) < width]
        lines = next(n for n in count() if all(abs(y - point.y - n * height) >= height for y in near))
        lines_down[point.name] = lines
        labels.append((point.x, point.y + lines * height))
    return [replace(point, lines_down=lines_down.get(point.name, 0)) for point in points]
