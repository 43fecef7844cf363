"""The leaderboard's pages: one with tables and charts, and one for each method with its scores and images."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efface.benchmarks.result_store import ResultKey
from efface.core.errors import EffaceError
from efface.core.io import atomic_folder, read_json
from efface.core.manifest import IMAGES
from efface.core.result import Result

from .data_uris import data_uri
from .formatting import format_cell, format_duration, format_number
from .labels import describe_metric, group_label
from .leaderboard import ALL, Entry, entries, read_results
from .leaderboard_board import boards
from .templates import render_template

IMAGES_PER_GROUP = 4
METRICS = ("rer", "retention", "abstention_rate", "asr_pre", "asr_post", "kid", "clip_score")
"""Metrics of a method's page, in their order."""
MARKER = "leaderboard.json"
"""File in the site's folder with the table's numbers; its presence allows the folder to be replaced."""


@dataclass(frozen=True)
class PairOfImages:
    """Two images of one prompt and seed, as data URIs; an attack's prompt may have changed."""

    prompt: str
    seed: int
    before: str | None
    after: str | None
    detected: str


def write_site(paths: Sequence[Path], out: Path, version: str) -> Path:
    """Writes the leaderboard as a folder of HTML pages that load nothing.

    Args:
        paths: results (see `efface.reporting.leaderboard.read_results`).
        out: folder of the site; an earlier leaderboard there is replaced.
        version: version of efface, for the footer.

    Returns:
        The first page.

    Raises:
        EffaceError: no results, or a folder with other content.
    """
    results = read_results(paths)
    if out.is_dir() and any(out.iterdir()) and not (out / MARKER).is_file():
        raise EffaceError(f"{out} holds no leaderboard, so it is not replaced: choose another folder")
    rows, images = entries(results), _images(paths)
    with atomic_folder(out, replace=True) as new:
        variables = {"boards": boards(rows, results), "all": ALL, "version": version}
        index = render_template("leaderboard.html", variables, _FILTERS)
        (new / "index.html").write_text(index, encoding="utf-8")
        (new / "methods").mkdir()
        for method, by_key in results.items():
            own = [row for row in rows if row.method == method]
            page = _method_page(method, own, by_key, images.get(method, {}), version)
            (new / "methods" / f"{page_name(method)}.html").write_text(page, encoding="utf-8")
        data = [vars(row) for row in rows]
        (new / MARKER).write_text(json.dumps(data, indent=1), encoding="utf-8")
    return out / "index.html"


def page_name(method: str) -> str:
    """Returns a method's name as a file name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", method)


def _method_page(
    method: str,
    rows: Sequence[Entry],
    results: Mapping[ResultKey, Result],
    images: Mapping[str, list[PairOfImages]],
    version: str,
) -> str:
    tables = []
    for key, result in sorted(results.items()):
        scores = sorted(
            (score for score in result.scores if score.metric in METRICS and score.n),
            key=lambda score: METRICS.index(score.metric),
        )
        tables.append((str(key), result, scores))
    variables = {"method": method, "rows": rows, "tables": tables, "images": images, "version": version}
    return render_template("leaderboard_method.html", variables, _FILTERS)


def _images(paths: Sequence[Path]) -> dict[str, dict[str, list[PairOfImages]]]:
    """Reads images of the cells of sweeps: by method, then by benchmark with the group or attack."""
    found: dict[str, dict[str, list[PairOfImages]]] = {}
    for path in paths:
        for listing in sorted(path.glob(f"cells/*/evidence/{IMAGES}")):
            folder = listing.parent
            cell: Any = read_json(folder.parent / "cell.json")
            run = cell["run"]["method"]
            method = run if cell["method_name"] == run else f"{run}-{cell['method_name']}"
            own = found.setdefault(method, {})
            rows: Any = read_json(listing)
            for row in rows:
                group = own.setdefault(f"{cell['benchmark_name']}: {group_label(row['group'])}", [])
                if len(group) < IMAGES_PER_GROUP:
                    group.append(_pair(row, folder))
    return found


def _pair(row: Mapping[str, Any], folder: Path) -> PairOfImages:
    uris = {when: data_uri(folder / row[when])[0] if row.get(when) else None for when in ("before", "after")}
    detected = (row.get("detected_after") or {}).get("object", "")
    return PairOfImages(str(row["text"]), int(row["seed"]), uris["before"], uris["after"], str(detected))


_FILTERS: dict[str, Callable[..., Any]] = {
    "number": format_number,
    "duration": format_duration,
    "cell": format_cell,
    "metric": lambda name: describe_metric(name).label,
    "group": group_label,
    "page": page_name,
}
