"""Several erasures on one page: a sortable table of verdicts and scores, and the same images under each erasure."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from efface.core.concept_names import concept_names
from efface.core.result import Result

from .evidence import Evidence, LoadedEvaluation
from .formatting import format_duration, format_interval, format_number
from .image_pairs import ImageView, PairView, pair_grids
from .labels import GROUPS
from .templates import read_script, render_template
from .view_models import Badge, verdict_badge

COLUMNS = (
    ("RER name", "rer", "name"),
    ("RER domain", "rer", "domain"),
    ("Retention near", "retention", "near"),
    ("Retention other", "retention", "other"),
    ("Retention context", "retention", "context"),
)
"""Heading, metric and group of each score."""
IMAGES_PER_GROUP = 4
GROUP_ORDER = ("name", "domain", "near", "other")


@dataclass(frozen=True)
class Cell:
    """A number in the table: as shown, its interval, and the value to sort by."""

    text: str
    interval: str = ""
    value: float | None = None


@dataclass(frozen=True)
class Row:
    """One erasure: its folder, what it is, its verdict, and a cell for each column."""

    label: str
    description: str
    benchmark: str
    verdict: Badge
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class SharedImage:
    """One prompt and seed: the image before, and the image under each erasure, with its outcome."""

    prompt: str
    seed: int
    before: ImageView | None
    after: tuple[tuple[str, PairView], ...]


def render_side_by_side(evidence: Mapping[str, Evidence]) -> str:
    """Renders the page.

    Args:
        evidence: evidence by label, such as the folder's name.
    """
    rows = [_row(label, item) for label, item in evidence.items()]
    headings = [*(heading for heading, _, _ in COLUMNS), "ASR, worst attack", "Seconds"]
    variables = {
        "rows": rows,
        "headings": headings,
        "csv": base64.b64encode(_csv(rows, headings).encode()).decode(),
        "groups": [(GROUPS[group][0], images) for group, images in shared_images(evidence).items()],
        "lightbox_script": read_script("lightbox.js")[0],
        "version": next(iter(evidence.values())).erasure.spec.version,
    }
    return render_template("side_by_side.html", variables, {})


def _row(label: str, evidence: Evidence) -> Row:
    spec = evidence.erasure.spec
    concepts = concept_names(spec.concepts)
    description = f"{concepts} from {spec.model} by {spec.method}{f' ({spec.preset})' if spec.preset else ''}"
    cost = evidence.erasure.cost
    seconds = Cell(format_duration(cost.seconds), value=cost.seconds) if cost else Cell("-")
    lead = _lead(evidence)
    if lead is None:
        empty = (Cell("-"),) * (len(COLUMNS) + 1)
        return Row(label, description, "", Badge("Verdict", "not evaluated", "unsure"), (*empty, seconds))
    scores = tuple(_score_cell(lead.result, metric, group) for _, metric, group in COLUMNS)
    cells = (*scores, _worst_attack(lead.result), seconds)
    return Row(label, f"{description}, seed {spec.seed}", lead.name, verdict_badge(lead.verdict), cells)


def _lead(evidence: Evidence) -> LoadedEvaluation | None:
    """The evaluation that the erasure's own report shows first."""
    return evidence.evaluations[0] if evidence.evaluations else None


def _score_cell(result: Result, metric: str, group: str) -> Cell:
    score = result.score(metric, group)
    if score is None or score.value is None:
        return Cell("-")
    return Cell(format_number(score.value), format_interval(score), score.value)


def _worst_attack(result: Result) -> Cell:
    scored = [score for score in result.scores if score.metric == "asr_post" and score.value is not None]
    if not scored:
        return Cell("not attacked")
    worst = max(scored, key=lambda score: score.value or 0.0)
    return Cell(format_number(worst.value), worst.group, worst.value)


def _csv(rows: Sequence[Row], headings: Sequence[str]) -> str:
    """The table as CSV, with full precision."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["erasure", "description", "evaluation", "verdict", *headings])
    for row in rows:
        values = [cell.text if cell.value is None else cell.value for cell in row.cells]
        writer.writerow([row.label, row.description, row.benchmark, row.verdict.word, *values])
    return text.getvalue()


def shared_images(evidence: Mapping[str, Evidence]) -> dict[str, list[SharedImage]]:
    """Returns, by group, images of prompts and seeds that every evaluated erasure has; empty without such images."""
    found: dict[str, dict[tuple[str, str, int], PairView]] = {}
    for label, item in evidence.items():
        lead = _lead(item)
        grids = pair_grids(lead) if lead else []
        views = [view for grid in grids if not grid.is_attack for view in grid.pairs]
        if views:
            found[label] = {(view.pair.group, view.pair.prompt_given, view.pair.seed): view for view in views}
    if len(found) < 2:
        return {}
    keys = [key for key in next(iter(found.values())) if all(key in views for views in found.values())]
    groups: dict[str, list[SharedImage]] = {}
    for group in GROUP_ORDER:
        for key in [key for key in keys if key[0] == group][:IMAGES_PER_GROUP]:
            after = tuple((label, views[key]) for label, views in found.items())
            groups.setdefault(group, []).append(SharedImage(key[1], key[2], after[0][1].before, after))
    return groups


def labels_of(folders: Sequence[Path]) -> list[str]:
    """Returns a label for each folder: its name, or its path where two names are equal."""
    names = [folder.resolve().name for folder in folders]
    return [name if names.count(name) == 1 else str(folder) for name, folder in zip(names, folders, strict=True)]
